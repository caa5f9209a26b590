"""A trial on a further node, whose processes take part in it and leave all records to its first."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sweep.execution.job import Job
from sweep.execution.worker import remote_inputs
from sweep.storage.remote.mirror import Mirror
from trainers import files
from trainers.processes import attempt

SEEN_SECONDS = 300.0
"""For a file of the trial's to be seen here: a network file system may take a minute, and a store
has it when the first node has brought it up."""

LOOK_SECONDS = 1.0


class NotSeen(Exception):
    """This node does not see what the trial's first node has written."""


@contextlib.contextmanager
def here(job: Job, id: str, awaited: str) -> Iterator[Job]:
    """The job as the attempt with this id can be helped with on this node, for the time of the
    block, once it has the file `awaited` of the trial's folder.

    Raises:
        NotSeen: it is not there after minutes.
        Unreachable: for minutes the store could not be read.
    """
    if job.stored is None:
        _wait(Path(job.folder, awaited), lambda: None)
        yield job
        return
    name = Path(job.folder).name
    with remote_inputs.room(remote_inputs.cache_of(job.stored.url)) as room:
        folder = room / "trials" / name
        folder.mkdir(parents=True)
        mirror = Mirror(folder, f"{job.stored.url}/trials/{name}")
        _wait(folder / awaited, partial(remote_inputs.patiently, mirror.pull))
        files.write_json(folder / attempt.HOLDER, {"id": id})
        yield remote_inputs.brought(job, room).of(job, folder)


def _wait(file: Path, look: Callable[[], None]) -> None:
    end = time.monotonic() + SEEN_SECONDS
    while True:
        look()
        if file.exists():
            return
        if time.monotonic() > end:
            raise NotSeen(
                f"{socket.gethostname()} does not see {file}, which the trial's first node has; "
                "have all nodes share the folder of --runs, or give --runs a URL"
            )
        time.sleep(LOOK_SECONDS)
