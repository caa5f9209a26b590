"""Under which conditions an attempt trains; none of them decides the weights."""

import math
from typing import Literal, NamedTuple

Sharding = Literal["none", "optimizer", "full"]


class Conditions(NamedTuple):
    deadline: float = math.inf
    """On the monotonic clock; a training that passes it ends."""
    memory_kills: int = 0
    """How often an earlier attempt ended for want of memory: each halves the token budget."""
    sharding: Sharding = "none"
    """What the processes of a training divide among them (trainers/steps/sharding.py)."""


FEWEST_COMPILED = 5000
"""Micro-batches of a training on a GPU from which its layers are compiled. An estimate
(tests/bench/bench_launches.py): each saves about 3,500 launches of 5 us, and compiling takes about
90 s."""

DEFAULTS = Conditions()
