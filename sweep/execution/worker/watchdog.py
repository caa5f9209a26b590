"""Ends an attempt that makes no progress, that is over its time, or that another has superseded.

A thread beside the work looks at the attempt's signs (`trainers/processes/attempt.py`). It writes
the stacks of all threads to the trial's log, records the failure and ends the process: what hangs
inside a kernel or a collective cannot be stopped in another way. The driver does the same from
outside for a process that cannot (`sweep/execution/supervisor.py`).
"""

import contextlib
import faulthandler
import math
import multiprocessing
import os
import threading
import time
from typing import Any

from sweep.execution.job import GRACE_SECONDS, Limits
from sweep.storage.trial_folder import TrialFolder
from sweep.storage.trial_log import LOG
from trainers.cli import CANNOT_RUN
from trainers.processes.attempt import Attempt, Superseded

LOOK_SECONDS = 1.0

GO_ON = "the same command goes on from here"


class Watchdog:
    """Watches one attempt of this process, from the start to the end of the block; one at several
    trials is ended, and recorded, as a whole.

    `shared`: the process is also the driver (`--local`). Then the ranks of a trial are ended alone,
    and the driver where there are none.
    """

    def __init__(self, attempt: Attempt, limits: Limits, *, shared: bool):
        self.reason = ""
        """Why it ended the ranks of the attempt; the failure is recorded."""
        self._attempt = attempt
        self._limits = limits
        self._log = TrialFolder(attempt.folder).log
        self._shared = shared
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        """
        Raises:
            OSError: the log cannot be written; nobody would watch the attempt.
        """
        self._output = open(self._log, "a", encoding="utf-8")
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # a disk that is full
            self._output.close()

    def _watch(self) -> None:
        limits = self._limits
        begun = changed = time.monotonic()
        sign = self._attempt.heard()
        self._arm()
        while not self.reason and not self._stop.wait(
            min(LOOK_SECONDS, limits.silent_seconds / 10)
        ):
            now = time.monotonic()
            if (latest := self._attempt.heard()) != sign:
                sign, changed = latest, now
                self._arm()
            silent = now - changed
            if silent > limits.silent_seconds:
                self._end(limits.why_stalled(silent), stalled=True)
            elif now - begun > limits.hard_seconds:
                limit = limits.max_seconds
                why = f"over the time limit of {limit:.0f} s (limits.max_trial_hours)"
                self._end(why, out_of_time=True)
            elif self._superseded():
                self._exit()
        faulthandler.cancel_dump_traceback_later()

    def _arm(self) -> None:
        """Code that holds the interpreter's lock stops this thread too: then faulthandler's own
        ends the process, without a record."""
        seconds = self._limits.stalled_seconds
        if not self._shared and math.isfinite(seconds):
            late = seconds + min(GRACE_SECONDS, seconds)
            faulthandler.dump_traceback_later(late, exit=True, file=self._output)

    def _superseded(self) -> bool:
        try:
            self._attempt.check()
        except OSError:  # looked at again
            return False
        except Superseded as error:
            LOG.error("%s", error)
            self.reason = str(error)
            return True
        return False

    def _end(self, why: str, **facts: bool) -> None:
        """Dump, record and exit; exit too where the disk is full."""
        with contextlib.suppress(OSError):
            self._output.write(f"{why}; the stacks of process {os.getpid()}:\n")
            self._output.flush()
            faulthandler.dump_traceback(self._output, all_threads=True)
        if not self._superseded():
            folders = [TrialFolder(part.folder) for part in self._attempt.parts]
            for folder in folders:
                if len(folders) == 1 or not folder.trained():  # one that is has ended
                    self._record(folder, why, **facts)
        self._exit()

    def _record(self, folder: TrialFolder, why: str, **facts: bool) -> None:
        where = "log.txt" if folder.log == self._log else self._log
        phase = folder.phase
        self.reason = f"{phase}: {why}; {where} has the stacks"
        with contextlib.suppress(OSError):
            if folder.attempts()[-1]["event"] != "failed":  # else the driver was quicker
                folder.log_attempt(
                    "failed", phase=phase, reason=self.reason, progress=folder.progress(), **facts
                )
        LOG.error("failed: %s", self.reason)

    def _exit(self) -> None:
        """With the ranks, which would wait for each other."""
        if self._stop.is_set():  # the work has just ended
            return
        ranks = multiprocessing.active_children()
        for rank in ranks:
            rank.kill()
        if self._shared and ranks:
            return
        if self._shared:
            os.write(2, f"{self._attempt.folder}: {self.reason}; {GO_ON}\n".encode())
        os._exit(CANNOT_RUN)
