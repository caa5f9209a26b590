"""A trial on a node that shares no folder with the others: what it needs is brought here, what it
leaves goes up while it runs, and in the end nothing of it stays here.

Each attempt has a folder of its own, which begins as what the store holds; what it reads beside
that is in remote_inputs.py.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sweep.execution import stop_request
from sweep.execution.job import Job
from sweep.execution.stop_request import CLAIM
from sweep.execution.worker import remote_inputs
from sweep.storage.remote.mirror import Mirror
from sweep.storage.remote.object_store import Unreachable, asking
from sweep.storage.trial_log import LOG
from trainers.processes.attempt import SIGNS, Superseded

LOOK_EVERY = 0.5
CURVES_EVERY = 15.0
"""Seconds from one upload of what merely grows to the next; the rest goes up when it is there."""

ASKED_EVERY = 5.0
"""Seconds from one look for a request to stop to the next."""

GROWING = {"metrics.jsonl", "log.txt", SIGNS}


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
    stored = jobs[0].stored
    if stored is None:
        yield list(jobs)
        return
    url = stored.url
    root = remote_inputs.cache_of(url)
    with remote_inputs.room(root) as room, contextlib.ExitStack() as stack:
        names = [Path(job.folder).name for job in jobs]
        trials = [_Trial(room / "trials" / name, f"{url}/trials/{name}") for name in names]
        for trial in trials:
            remote_inputs.patiently(trial.begin)
        inputs = remote_inputs.brought(jobs[0], room)
        mine = []
        for job, trial in zip(jobs, trials, strict=True):
            mine.append(inputs.of(job, trial.mirror.here))
            stack.enter_context(trial.followed() if len(jobs) == 1 else _as_lane(trial))
        yield mine
        remote_inputs.patiently(partial(remote_inputs.push_references, url, root))


@contextlib.contextmanager
def _as_lane(trial: "_Trial") -> Iterator[None]:
    try:
        with trial.followed():
            yield
    except Superseded as error:
        LOG.error("%s", error)


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
            remote_inputs.patiently(
                lambda: self.push(last=not at_once),
                remote_inputs.PATIENCE[:1] if at_once else remote_inputs.PATIENCE,
            )

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
