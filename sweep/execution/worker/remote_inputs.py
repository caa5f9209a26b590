"""What a trial reads on a node that shares no folder with the others, brought here from the store:
data and the files that a grid names once per node, into the node's cache; its parent's weights into
a room of the attempt's own.
"""

import contextlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from filelock import FileLock, Timeout

from sweep.execution.job import Job, moved
from sweep.storage.remote.mirror import Mirror
from sweep.storage.remote.mirror_files import content
from sweep.storage.remote.object_store import Unreachable, asking
from sweep.storage.trial_folder import REMOVED
from sweep.storage.trial_log import LOG
from trainers import files

PATIENCE = (0.0, 5.0, 15.0, 40.0, 120.0)
"""Seconds before each try to have from the store what a trial begins with, and to bring up what it
leaves at its end."""

Had = TypeVar("Had")


def patiently(ask: Callable[[], Had], patience: tuple[float, ...] = PATIENCE) -> Had:
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


class Inputs(NamedTuple):
    """Where a job finds here what it reads."""

    names: dict[str, str]
    """Of local files and folders that the grid names."""
    data: str
    parent_folder: str | None

    def of(self, job: Job, folder: Path) -> Job:
        """The job with these, at work in this folder."""
        return moved(job, lambda name: self.names.get(name, name))._replace(
            stored=None, data=self.data, parent_folder=self.parent_folder, folder=str(folder)
        )


def cache_of(url: str) -> Path:
    """What this node keeps of a run in a store."""
    return files.cache_folder("stores") / files.short_hash(url)


def brought(job: Job, room: Path) -> Inputs:
    """
    Raises:
        Unreachable: for minutes the store could not be read.
    """
    assert job.stored is not None
    url, root = job.stored.url, cache_of(job.stored.url)
    data = str(patiently(lambda: _data(url, root)))
    parent = None
    if job.parent_folder is not None:
        name = Path(job.parent_folder).name
        parent = str(patiently(lambda: _parent(url, room, name)))
    named = job.stored.inputs.items()
    return Inputs(
        patiently(lambda: {path: str(named_input(url, root, at)) for path, at in named}),
        data,
        parent,
    )


@contextlib.contextmanager
def room(root: Path) -> Iterator[Path]:
    """An empty folder for one attempt; those of processes that were killed go."""
    root.mkdir(parents=True, exist_ok=True)
    remove_rooms_left(root)
    folder = root / f"room-{uuid.uuid4().hex[:8]}"
    lock = FileLock(f"{folder}.lock")
    with lock:
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():  # else the lock tells who comes next of it
        Path(lock.lock_file).unlink(missing_ok=True)


def remove_rooms_left(root: Path) -> None:
    """By processes that were killed."""
    for left in root.glob("room-*.lock"):
        with contextlib.suppress(Timeout), FileLock(left, timeout=0):
            shutil.rmtree(folder := left.with_suffix(""), ignore_errors=True)
            if not folder.exists():
                left.unlink(missing_ok=True)


def _parent(url: str, room: Path, name: str) -> Path:
    """A folder with the parent's weights and the records of them: its training, and their removal
    where they are going or gone, which is asked for last, for it is there before the first of them
    goes."""
    folder, at = room / "parent" / name, f"{url}/trials/{name}"
    Mirror(folder / "model", f"{at}/model").pull()
    folder.mkdir(parents=True, exist_ok=True)
    there = Mirror(folder, at)
    system: Any = there.system
    for record in ("train.json", REMOVED):
        with asking(at), contextlib.suppress(FileNotFoundError):
            (folder / record).write_bytes(system.cat_file(f"{there.path}/{record}"))
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


def named_input(url: str, root: Path, name: str) -> Path:
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
        files.take_place(aside, place)


def push_references(url: str, root: Path) -> None:
    """What trials on this node have computed for all: the log-probabilities of DPO's reference."""
    mirror = Mirror(root / "data" / "reference", f"{url}/data/reference")
    there = mirror.there()
    for file in mirror.here.glob("*.npz"):
        if file.name not in there and not file.name.endswith(".part.npz"):
            with asking(url):
                mirror.system.put_file(str(file), f"{mirror.path}/{file.name}")
