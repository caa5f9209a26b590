"""Ends the process of an attempt, and those that it has started."""

import contextlib
import signal

import psutil

ABORT_SECONDS = 10.0
"""For a process to write its stacks to the trial's log."""


def end(pid: int, created: float) -> None:
    """Abort the process, which has its stacks written where `faulthandler` is on, even where it was
    stopped; then kill what is left of it and its children. Another process that has got the number
    since is left alone."""
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - created) > 2.0:
            return
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGABRT)
        process.send_signal(signal.SIGCONT)  # a stopped process takes no other signal
    psutil.wait_procs([process], ABORT_SECONDS)
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
