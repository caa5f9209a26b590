"""The weights of a trial, from a store into a folder of their own."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sweep.storage.remote.mirror import ASIDE, Mirror
from sweep.storage.remote.mirror_files import below
from sweep.storage.remote.object_store import Unreachable, asking
from sweep.storage.trial_folder import REMOVED


@contextlib.contextmanager
def weights(mirror: Mirror, folder: str) -> Iterator[Path]:
    """The files of a trial's folder of weights, for the time of the block.

    Raises:
        Unreachable: they are not to be had, or are there no more.
    """
    trial = folder.rpartition("/")[0]
    there = mirror.there(trial)
    names = list(filter(below([folder]), there))
    if not names or f"{trial}/{REMOVED}" in there:
        raise Unreachable(
            f"{mirror.url}/{folder}: the weights were removed since the records came here; bring "
            f"them anew: python -m sweep.execution.remote_run {mirror.url} {mirror.here}"
        )
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=mirror.here) as place:
        files = [str(Path(place, name[len(folder) + 1 :])) for name in names]
        with asking(mirror.url):
            mirror.system.get([f"{mirror.path}/{name}" for name in names], files)
        yield Path(place)
