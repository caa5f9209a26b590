"""SIGTERM is the notice that this machine is taken away soon: running trials save a checkpoint.

The command's signal handler calls `notice`. Who runs trials listens, asks them to stop, and raises
KeyboardInterrupt when they have; where nobody listens the handler does so at once.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 20.0
"""Until the command ends all the same; SLURM and Kubernetes kill after 30."""


class _State:
    listening = False
    noticed = 0.0
    """By the monotonic clock; 0 before."""


def notice() -> bool:
    """Note a SIGTERM; whether somebody listens."""
    _State.noticed = _State.noticed or time.monotonic()
    return _State.listening


def noticed() -> bool:
    """Whether running trials should stop."""
    return bool(_State.noticed)


def is_due() -> bool:
    """Whether the command should end, with trials that have not stopped."""
    return noticed() and time.monotonic() - _State.noticed > SECONDS


@contextmanager
def heard() -> Iterator[None]:
    """Until the end of the block somebody looks at `noticed`."""
    _State.listening, _State.noticed = True, 0.0
    try:
        yield
    finally:
        _State.listening = False
