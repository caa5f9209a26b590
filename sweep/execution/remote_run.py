"""A run folder that lies in an object store, as its driver sees it.

    python -m sweep.execution.remote_run s3://bucket/runs/lr_bs runs/lr_bs

The driver works on a light mirror, so all that reads a run folder reads it as ever; the folder of a
trial is its worker's while it runs, and the driver's before and after.
"""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from sweep.execution.job import Job, Outcome, Stored, Watch, moved
from sweep.storage.driver_lock import RunHeld
from sweep.storage.mirror import Mirror
from sweep.storage.mirror_files import content, is_own
from sweep.storage.object_store import BadUrl, Unreachable, asking, opened
from sweep.storage.remote_lock import lease
from sweep.storage.run_folder import MARK, RunFolder
from trainers import files
from trainers.cli import BAD_INPUT, CANNOT_RUN, refusing, stop
from trainers.evaluate import task_files

FOLLOWED_EVERY = 10.0
"""Seconds from one look at the running trials to the next, at least."""

GONE_AFTER = 150.0
"""Seconds out of reach after which no further trial begins: it would wait for the store as long as
it may, in vain, and fail."""


def reached(url: str) -> None:
    """Write there, and remove it.

    Raises:
        BadUrl: the URL is none that can be had.
        Unreachable: the store does not answer, or does not let us write.
    """
    system, path = opened(url)
    probe = f"{path}/.probe-{uuid.uuid4().hex}"
    with asking(url):
        system.pipe_file(probe, b"probe")
        system.rm_file(probe)


def mirrored(folder: Path, url: str) -> Mirror:
    """The light mirror of a run.

    Raises:
        BadUrl: the URL is none that can be had.
    """
    mirror = Mirror(folder, url, light=True)
    files.write_json(folder / MARK, {"url": url})
    return mirror


@contextlib.contextmanager
def weights(folder: Path) -> Iterator[Path]:
    """Those of a trial's folder, which may be in a mirror.

    Raises:
        Unreachable: they are in a store that does not give them.
    """
    run = RunFolder(folder.parents[1])
    if run.mirror_of is None:
        yield folder / "model"
        return
    name = (folder.absolute() / "model").relative_to(run.path).as_posix()
    with Mirror(run.path, run.mirror_of, light=True).weights(name) as found:
        yield found


@contextlib.contextmanager
def held(
    url: str | None, folder: RunFolder, say: Callable[[str], None]
) -> Iterator["StoredRun | None"]:
    """The run at `url`, held by this driver until the end of the block; None where there is no
    URL. See `StoredRun.held`."""
    if url is None:
        yield None
        return
    with StoredRun(url, folder, say).held() as run:
        yield run


class StoredRun:
    """The run at `url`, with its mirror at `folder`, held by this driver."""

    def __init__(self, url: str, folder: RunFolder, say: Callable[[str], None]):
        self._url = url
        self._folder = folder
        self._say = say
        self._mirror = mirrored(folder.path, url)
        self._running: set[str] = set()
        """Folders of trials, as `trials/<name>`."""
        self._unseen: set[str] = set()
        """Those that have ended, and could not be looked at."""
        self._inputs: dict[str, str] = {}
        self._away_since: float | None = None
        self._stop = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator["StoredRun"]:
        """Take the run, have its records here, follow it, and leave all in the store.

        Raises:
            RunHeld: another driver has it, or has taken it meanwhile.
            Unreachable: the store cannot be read or written.
        """
        with lease(self._mirror, self._say) as lock:
            if self._is_gone():
                raise Unreachable(
                    f"{self._url}: nothing is there, and {self._folder.path} has a run that was; "
                    "delete that folder to begin anew"
                )
            self._mirror.pull()
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

    def push(self) -> None:
        """Bring up what changed here, but for what workers are at."""
        self._mirror.push(spared=tuple(self._running))

    def settle(self) -> None:
        """Have the records of all trials that have ended.

        Raises:
            Unreachable: they are not to be had.
        """
        try:
            for name in tuple(self._unseen):
                self._mirror.pull(name)
                self._unseen.discard(name)
        except Unreachable as error:
            raise Unreachable(f"{error}; when it is back, the same command continues") from error

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

    def watch(self, told: Watch, jobs: dict[str, Job]) -> Watch:
        """Tells the same, when the records say it here too."""
        return _Watch(self, told, jobs)

    def begun(self, name: str) -> None:
        self._running.add(name)

    def look(self, name: str) -> None:
        self._unseen.add(name)
        with contextlib.suppress(Unreachable):
            self._mirror.pull(name)
            self._unseen.discard(name)

    def over(self, name: str) -> None:
        self.look(name)
        self._running.discard(name)

    def _is_gone(self) -> bool:
        """Whether the mirror has trials that ran, of a run that the store does not know."""
        mirror = self._mirror
        with asking(self._url):
            there = mirror.system.exists(f"{mirror.path}/plan.csv")
        return not there and any(self._folder.path.glob("trials/*/attempts.jsonl"))

    def _follow(self) -> None:
        took = 0.0
        while not self._stop.wait(max(FOLLOWED_EVERY, 10 * took)):
            began = time.monotonic()
            try:
                if running := tuple(self._running):
                    self._mirror.pull(*running)
                self.push()
                if running:  # else nothing may have been asked
                    self._away_since = None
            except Unreachable as error:
                if not self.away:
                    self._away_since = began
                    self._say(f"{error}; tried again every {FOLLOWED_EVERY:.0f} s")
            took = time.monotonic() - began

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
        return sorted(task_files.needed(path))
    if path.is_file():
        return [path]
    files = [file for file in path.rglob("*") if file.is_file()]
    return sorted(file for file in files if not is_own(file.relative_to(path).as_posix()))


class _Watch:
    def __init__(self, run: StoredRun, told: Watch, jobs: dict[str, Job]):
        self._run = run
        self._told = told
        self._names = {key: f"trials/{Path(job.folder).name}" for key, job in jobs.items()}

    def started(self, key: str) -> None:
        self._run.begun(self._names[key])
        self._told.started(key)

    def retried(self, key: str) -> None:
        self._run.look(self._names[key])
        self._told.retried(key)

    def died(self, key: str) -> None:
        self._run.look(self._names[key])
        self._told.died(key)

    def ended(self, ended: Outcome) -> None:
        self._run.over(self._names[ended.key])
        self._told.ended(ended)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@refusing
def main(
    url: Annotated[str, typer.Argument(metavar="URL", help="A run, e.g. s3://bucket/runs/lr_bs.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Its mirror, new or not.")],
) -> None:
    """Bring the records of a run here, without weights and prepared data."""
    url = url.rstrip("/")
    if told := RunFolder(folder).problem(url):
        stop(BAD_INPUT, told)
    try:
        system, path = opened(url)
        with asking(url):
            there = system.exists(f"{path}/manifest.json")
        if not there:
            stop(BAD_INPUT, f"{url}: no run (it has no manifest.json)")
        with RunFolder(folder).lock():
            mirrored(folder, url).pull()
    except BadUrl as error:
        stop(BAD_INPUT, str(error))
    except (Unreachable, RunHeld) as error:
        stop(CANNOT_RUN, str(error))
    print(folder)


if __name__ == "__main__":
    app()
