"""A trial on a node that shares no folder with the others: what it needs is brought here, what it
leaves goes up while it runs, and in the end nothing of it stays here.

Data and the files that a grid names come once per node, into the node's cache; each attempt has a
folder of its own, which begins as what the store holds.
"""

import contextlib
import json
import os
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from sweep.execution import stop_request
from sweep.execution.job import Job, moved
from sweep.execution.stop_request import CLAIM
from sweep.storage.remote.mirror import Mirror
from sweep.storage.remote.mirror_files import content
from sweep.storage.remote.object_store import Unreachable, asking
from sweep.storage.trial_log import LOG
from trainers import files
from trainers.attempt import SIGNS, Superseded

LOOK_EVERY = 0.5
CURVES_EVERY = 15.0
"""Seconds from one upload of what merely grows to the next; the rest goes up when it is there."""

ASKED_EVERY = 5.0
"""Seconds from one look for a request to stop to the next."""

GROWING = {"metrics.jsonl", "log.txt", SIGNS}

PATIENCE = (0.0, 5.0, 15.0, 40.0, 120.0)
"""Seconds before each try to have from the store what a trial begins with, and to bring up what it
leaves at its end."""

Had = TypeVar("Had")


@contextlib.contextmanager
def here(job: Job) -> Iterator[Job]:
    """The job as it can be run on this node, for the time of the block; the job itself where all
    nodes see its folders.

    Raises:
        Unreachable: for minutes the store could not be read at the beginning, or written to at the
            end.
        Superseded: the trial was started again elsewhere.
    """
    with all_here([job]) as jobs:
        yield jobs[0]


@contextlib.contextmanager
def all_here(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """`here` of jobs that start from the same weights. One of several that was started again
    elsewhere does not end the others."""
    stored, parent_folder = jobs[0].stored, jobs[0].parent_folder
    if stored is None:
        yield list(jobs)
        return
    url = stored.url
    root = files.cache_folder("stores") / files.short_hash(url)
    with _room(root) as room, contextlib.ExitStack() as stack:
        names = [Path(job.folder).name for job in jobs]
        trials = [_Trial(room / "trials" / name, f"{url}/trials/{name}") for name in names]
        for trial in trials:
            _patiently(trial.begin)
        update = {"stored": None, "data": str(_patiently(lambda: _data(url, root)))}
        if parent_folder is not None:
            parent = Path(parent_folder).name
            update["parent_folder"] = str(_patiently(lambda: _parent(url, room, parent)))
        named = stored.inputs.items()
        inputs = _patiently(lambda: {path: str(_input(url, root, at)) for path, at in named})
        mine = []
        for job, trial in zip(jobs, trials, strict=True):
            folder = str(trial.mirror.here)
            moved_job = moved(job, lambda name: inputs.get(name, name))
            mine.append(moved_job._replace(folder=folder, **update))
            stack.enter_context(trial.followed() if len(jobs) == 1 else _as_lane(trial))
        yield mine
        _patiently(lambda: _push_references(url, root))  # before the last records


@contextlib.contextmanager
def _as_lane(trial: "_Trial") -> Iterator[None]:
    try:
        with trial.followed():
            yield
    except Superseded as error:
        LOG.error("%s", error)


def _patiently(ask: Callable[[], Had], patience: tuple[float, ...] = PATIENCE) -> Had:
    """What `ask` returns, asked again after each of the pauses while the store is out of reach.

    Raises:
        Unreachable: so it was at the last try too.
    """
    for pause in patience[:-1]:
        time.sleep(pause)
        try:
            return ask()
        except Unreachable as error:
            LOG.warning("%s; tried again later", error)
    time.sleep(patience[-1])
    return ask()


class _Trial:
    """The trial's folder here and in the store."""

    def __init__(self, folder: Path, url: str):
        folder.mkdir(parents=True)
        self.mirror = Mirror(folder, url)
        self._claim = f"{self.mirror.path}/{CLAIM}"
        self._id = uuid.uuid4().hex
        self._stop = threading.Event()
        self._pushed = time.monotonic()

    def begin(self) -> None:
        """From here on whoever else is at work on it pushes nothing any more, and what of theirs is
        on its way is joined to no curve."""
        facts = {"id": self._id, "host": socket.gethostname(), "pid": os.getpid()}
        with asking(self.mirror.url):
            try:
                number = 1 + self._holder().get("number", 0)
            except FileNotFoundError:
                number = 1
            text = json.dumps(facts | {"number": number})
            self.mirror.system.pipe_file(self._claim, text.encode())
        self.mirror.segments.claim = number
        self.mirror.pull()
        self.mirror.push(last=True)

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        follower = threading.Thread(target=self._follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            self._stop.set()
            follower.join()
            at_once = isinstance(sys.exc_info()[1], KeyboardInterrupt | SystemExit)
            _patiently(lambda: self.push(last=not at_once), PATIENCE[:1] if at_once else PATIENCE)

    def push(self, *, last: bool = False) -> None:
        """
        Raises:
            Superseded: the trial was started again elsewhere.
        """
        with asking(self.mirror.url):
            holder = self._holder()
        if holder["id"] != self._id:
            raise Superseded(
                f"{self.mirror.url}: process {holder['pid']} on {holder['host']} has this trial now"
            )
        if self.mirror.push(last=last):
            self._pushed = time.monotonic()

    def _holder(self) -> dict[str, Any]:
        return json.loads(self.mirror.system.cat_file(self._claim))

    def _follow(self) -> None:
        asked = time.monotonic()
        while not self._stop.wait(LOOK_EVERY):
            if time.monotonic() > asked + ASKED_EVERY:
                asked = time.monotonic()
                stop_request.pass_on(self.mirror, self._id)
            changed = set(self.mirror.changed())
            if changed - GROWING or (changed and time.monotonic() > self._pushed + CURVES_EVERY):
                try:
                    self.push()
                except Unreachable as error:
                    LOG.warning("%s; tried again later", error)
                    self._stop.wait(CURVES_EVERY)
                except Superseded:  # said at the end
                    return


@contextlib.contextmanager
def _room(root: Path) -> Iterator[Path]:
    """An empty folder for one attempt; those of processes that were killed go."""
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob("room-*.lock"):
        with contextlib.suppress(Timeout), FileLock(left, timeout=0):
            shutil.rmtree(left.with_suffix(""), ignore_errors=True)
            left.unlink(missing_ok=True)
    room = root / f"room-{uuid.uuid4().hex[:8]}"
    lock = FileLock(f"{room}.lock")
    with lock:
        room.mkdir()
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)
    Path(lock.lock_file).unlink(missing_ok=True)


def _parent(url: str, room: Path, name: str) -> Path:
    """A folder with the parent's weights; without any where it keeps none."""
    folder = room / "parent"
    Mirror(folder / "model", f"{url}/trials/{name}/model").pull()
    return folder


def _data(url: str, root: Path) -> Path:
    """The run's prepared data, all that is whole in the store."""
    folder = root / "data"
    folder.mkdir(exist_ok=True)
    names = Mirror(folder, f"{url}/data").there()
    for name in names:
        key, _, file = name.partition("/")
        if file == "counts.json":
            _once(f"{url}/data/{key}", folder / key)
        elif key == "reference":
            _once(f"{url}/data/{name}", folder / name)
    return folder


def _input(url: str, root: Path, name: str) -> Path:
    """What is named `inputs/<content>/<name>` in the store, a file or a folder; it may be code.

    Raises:
        Unreachable: it is not what went up.
    """
    folder = Path(name).parent

    def check(place: Path) -> None:
        if content(place, (path for path in place.rglob("*") if path.is_file())) != folder.name:
            raise Unreachable(f"{url}/{name}: is not what the driver has brought up")

    _once(f"{url}/{folder}", root / folder, check)
    return root / name


def _once(url: str, place: Path, check: Callable[[Path], None] = lambda place: None) -> None:
    """Fetch a file or a folder that never changes; who comes second waits."""
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_name(f".{place.name}.lock")):
        if place.exists():
            return
        aside = place.with_name(f".{place.name}.part")
        shutil.rmtree(aside, ignore_errors=True)
        source = Mirror(aside, url)
        if source.there():
            source.pull()
        else:
            with asking(url):
                source.system.get_file(source.path, str(aside))
        check(aside)
        aside.rename(place)


def _push_references(url: str, root: Path) -> None:
    """What trials on this node have computed for all: the log-probabilities of DPO's reference."""
    mirror = Mirror(root / "data" / "reference", f"{url}/data/reference")
    there = mirror.there()
    for file in mirror.here.glob("*.npz"):
        if file.name not in there and not file.name.endswith(".part.npz"):
            with asking(url):
                mirror.system.put_file(str(file), f"{mirror.path}/{file.name}")
