"""Asks a running trial to save a checkpoint and end, wherever it runs.

Where nodes share no folder the request is `stop.json` beside the trial's claim in the object store;
the worker looks for it, and passes it on to the attempt in its own folder.
"""

import contextlib
import json
import threading
from pathlib import Path

from sweep.execution.job import Job
from sweep.storage.remote.mirror import Mirror
from sweep.storage.remote.object_store import Unreachable, asking, opened
from trainers.processes import attempt

CLAIM = "worker.json"
"""In the folder of a trial in the store: whose it is."""


def ask(job: Job, reason: str) -> None:
    """Ask the attempt that holds the job's folder; a store is asked in a thread, since a driver
    waits for none."""
    if job.stored is None:
        attempt.ask_to_stop(Path(job.folder), reason)
        return
    url = f"{job.stored.url}/trials/{Path(job.folder).name}"
    threading.Thread(target=_write, args=(url, reason), name="stop request", daemon=True).start()


def _write(url: str, reason: str) -> None:
    system, path = opened(url)
    with contextlib.suppress(Unreachable), asking(url):  # the driver ends it when it is due
        worker = json.loads(system.cat_file(f"{path}/{CLAIM}"))["id"]
        request = json.dumps({"worker": worker, "reason": reason})
        system.pipe_file(f"{path}/{attempt.STOP}", request.encode())


def pass_on(mirror: Mirror, worker: str) -> None:
    """Have the attempt in a trial's folder stop where this worker was asked to in the store."""
    with contextlib.suppress(Unreachable), asking(mirror.url):
        request = json.loads(mirror.system.cat_file(f"{mirror.path}/{attempt.STOP}"))
        if request["worker"] == worker:
            attempt.ask_to_stop(mirror.here, request["reason"])
