"""A run that lies in an object store, as its driver sees it.

The driver works on a light mirror, so all that reads a run folder reads it as ever; the folder of a
trial is its worker's while it runs, and the driver's before and after.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sweep.execution.job import Job, Outcome, Stored, TrialCallback, moved
from sweep.execution.remote_run import mirrored
from sweep.execution.worker import remote_inputs
from sweep.storage import leftovers
from sweep.storage.remote.lock import store_lock
from sweep.storage.remote.mirror_files import content, is_own
from sweep.storage.remote.object_store import Unreachable, WholeFiles, asking
from sweep.storage.run_folder import RunFolder
from trainers.tasks import own_files

FOLLOWED_EVERY = 10.0
"""Seconds from one look at the running trials to the next, at least."""

GONE_AFTER = 150.0
"""Seconds out of reach after which no further trial begins: it would wait for the store as long as
it may, in vain, and fail."""


@contextlib.contextmanager
def held(
    url: str | None, folder: RunFolder, say: Callable[[str], None]
) -> Iterator["RemoteRun | None"]:
    """The run at `url`, held by this driver until the end of the block; None where there is no
    URL. See `RemoteRun.held`."""
    if url is None:
        yield None
        return
    with RemoteRun(url, folder, say).held() as run:
        yield run


class RemoteRun:
    """The run at `url`, with its mirror at `folder`, held by this driver."""

    def __init__(self, url: str, folder: RunFolder, say: Callable[[str], None]):
        self._url = url
        self._folder = folder
        self._say = say
        self._mirror = mirrored(folder.path, url)
        self._running: set[str] = set()
        """Folders of trials, as `trials/<name>`."""
        self._unseen: set[str] = set()
        """Those that no attempt is at any more, and whose records are not here yet."""
        self._inputs: dict[str, str] = {}
        self._away_since: float | None = None
        self._last_away = -math.inf
        self._stop = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator["RemoteRun"]:
        """Take the run, have its records here, follow it, and leave all in the store.

        Raises:
            RunHeld: another driver has it, or has taken it meanwhile.
            Unreachable: the store cannot be read or written.
        """
        with store_lock(self._mirror, self._say) as lock:
            if self._is_gone():
                raise Unreachable(
                    f"{self._url}: nothing is there, and {self._folder.path} has a run that was; "
                    "delete that folder to begin anew"
                )
            self._mirror.pull()
            if isinstance(self._mirror.system, WholeFiles):
                leftovers.remove_parts(Path(self._mirror.path))
            remote_inputs.remove_rooms_left(remote_inputs.cache_of(self._url))
            self._say(f"{self._url}: mirrored in {self._folder.path}")
            follower = threading.Thread(target=self._follow, daemon=True)
            follower.start()
            try:
                yield self
            except BaseException:
                self._end(follower)
                if not lock.lost:
                    with contextlib.suppress(Unreachable):
                        self.push()
                raise
            self._end(follower)
            if not lock.lost:
                self.push()

    @property
    def away(self) -> bool:
        """Whether the store was out of reach when it was last asked."""
        return self._away_since is not None

    @property
    def gone(self) -> bool:
        """Whether it has been for so long that nothing more should begin."""
        since = self._away_since
        return since is not None and time.monotonic() - since > GONE_AFTER

    @property
    def lately_away(self) -> bool:
        """Whether it was within the time that a trial waits for it where it begins and ends."""
        return time.monotonic() - self._last_away < sum(remote_inputs.PATIENCE)

    def holds_back(self) -> bool:
        """Whether nothing should begin before the store is back.

        Raises:
            Unreachable: it has been away for long, and no trial is at work that may outlast that.
        """
        if self.gone and not self._running:
            raise Unreachable(
                f"{self._url}: has been out of reach for {GONE_AFTER:.0f} s and more, and no trial "
                "is at work; when it is back, the same command continues"
            )
        return self.gone

    def push(self) -> None:
        """Bring up what changed here, but for what workers are at, or have left and is not here."""
        self._mirror.push(spared=(*self._running, *self._unseen))

    def push_trials(self, *names: str) -> None:
        """What changed here in the folders of trials that no attempt is at."""
        with contextlib.suppress(Unreachable):  # it goes up when the store is back
            for name in names:
                self._mirror.push(under=name)

    def with_inputs(self, jobs: dict[str, Job]) -> dict[str, Job]:
        """The same jobs for nodes that share no folder; what they name goes up.

        Raises:
            Unreachable: it could not be brought up.
        """
        named: set[str] = set()
        for job in jobs.values():
            moved(job, lambda name: named.add(name) or name)
        for name in sorted(named - self._inputs.keys()):
            if name.startswith("/") and Path(name).exists():
                self._inputs[name] = self._bring_up(Path(name))
        self.push()
        place = Stored(self._url, dict(self._inputs))
        return {key: job._replace(stored=place) for key, job in jobs.items()}

    def callback(self, told: TrialCallback, jobs: dict[str, Job]) -> TrialCallback:
        """Tells the same, when the records say it here too."""
        return _RemoteCallback(self, told, jobs)

    def begun(self, name: str) -> None:
        self._unseen.discard(name)
        self._running.add(name)

    def seen(self, name: str) -> bool:
        """See `TrialCallback.seen`; while the store is away only its follower asks it."""
        asked_again = name in self._unseen
        self._unseen.add(name)  # first, as the follower's next push spares it then too
        self._running.discard(name)
        if not self.away:
            try:
                self._mirror.pull(name)
                self._unseen.discard(name)
                return True
            except Unreachable as error:
                self._note_away(error)
        if asked_again:
            self.holds_back()
        return False

    def _is_gone(self) -> bool:
        """Whether the mirror has trials that ran, of a run that the store does not know."""
        mirror = self._mirror
        with asking(self._url):
            there = mirror.system.exists(f"{mirror.path}/plan.csv")
        return not there and any(self._folder.path.glob("trials/*/attempts.jsonl"))

    def _follow(self) -> None:
        due = 0.0
        while not self._stop.wait(FOLLOWED_EVERY):
            began = time.monotonic()
            if began < due and not self.away:
                continue
            try:
                if running := tuple(self._running):
                    self._mirror.pull(*running)
                elif self.away:
                    self._is_gone()  # any answer will do
                self.push()
                self._away_since = None
                due = time.monotonic() + 10 * (time.monotonic() - began)
            except Unreachable as error:
                self._note_away(error)

    def _note_away(self, error: Unreachable) -> None:
        self._last_away = time.monotonic()
        if not self.away:
            self._away_since = self._last_away
            self._say(
                f"{error}; tried again every {FOLLOWED_EVERY:.0f} s; after {GONE_AFTER:.0f} s of "
                "that no further trial begins before it is back"
            )

    def _end(self, follower: threading.Thread) -> None:
        self._stop.set()
        follower.join()

    def _bring_up(self, path: Path) -> str:
        """A file, or a folder with all in it, under a name of its content; a task file with all
        that it needs."""
        files = _files(path)
        root = Path(os.path.commonpath([path.parent, *(file.parent for file in files)]))
        at = f"inputs/{content(root, files)}"
        there = {name: info["size"] for name, info in self._mirror.there(at).items()}
        with asking(self._url):
            for file in files:
                name = f"{at}/{file.relative_to(root).as_posix()}"
                if there.get(name) != file.stat().st_size:
                    self._mirror.system.put_file(str(file), f"{self._mirror.path}/{name}")
        return f"{at}/{path.relative_to(root).as_posix()}"


def _files(path: Path) -> list[Path]:
    if path.suffix in (".yaml", ".yml"):
        return sorted({Path(os.path.abspath(file)) for file in own_files.of_task(path)})
    if path.is_file():
        return [path]
    files = [file for file in path.rglob("*") if file.is_file()]
    return sorted(file for file in files if not is_own(file.relative_to(path).as_posix()))


class _RemoteCallback:
    def __init__(self, run: RemoteRun, told: TrialCallback, jobs: dict[str, Job]):
        self._run = run
        self._told = told
        self._names = {key: f"trials/{Path(job.folder).name}" for key, job in jobs.items()}

    def started(self, key: str, lanes: int = 1) -> None:
        self._run.begun(self._names[key])
        self._told.started(key, lanes)

    def sees(self) -> bool:
        return self._told.sees()

    def seen(self, key: str) -> bool:
        return self._run.seen(self._names[key]) and self._told.seen(key)

    def handed_back(self, key: str) -> None:
        self._told.handed_back(key)

    def retried(self, key: str) -> None:
        self._told.retried(key)

    def died(self, key: str) -> None:
        """What is recorded of it goes up before another attempt begins with what is there."""
        self._told.died(key)
        self._run.push_trials(self._names[key])

    def ended(self, ended: Outcome) -> None:
        self._told.ended(ended)
