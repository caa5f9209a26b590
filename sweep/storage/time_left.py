"""When a run will have ended, with an interval, from the times of the trials that have ended.

A trial that has not ended holds its slot as long as one that has, drawn from those of its stage and
batch size, else from those of its stage; trials that are trained in one pass share one. Draws share
the slots that are busy now, first come first served; the interval is that of the draws.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

SPREAD = 0.3
"""Standard deviation (natural log) of how long one trial takes beside another of its kind: machines
differ, and the first of a worker is slower. The mean of n trials is off by SPREAD / sqrt(n)."""

DRAWS = 200
MOST_DRAWN = 40_000
"""Trials times draws: many trials average out, and need fewer draws."""


class Timed(Protocol):
    """A planned trial, as `status_reader.TrialStatus`."""

    @property
    def stage(self) -> str: ...
    @property
    def batch_size(self) -> int | None: ...
    @property
    def state(self) -> str: ...
    @property
    def held(self) -> float: ...
    @property
    def gpu_seconds(self) -> float: ...
    @property
    def cpu_seconds(self) -> float: ...
    @property
    def lanes(self) -> int: ...
    @property
    def gpus(self) -> float: ...
    @property
    def cpus(self) -> float: ...


class Left(NamedTuple):
    """`low` to `high` hold the time to the end with 90 %."""

    seconds: float
    low: float
    high: float
    trial_seconds: float
    """Expected time of all trials together that is still to be spent."""
    gpu_seconds: float
    """The same times the GPUs that a trial holds."""
    cpu_seconds: float


def time_left(trials: Sequence[Timed]) -> Left | None:
    """None where nothing runs, or a stage with trials to come has none that has ended."""
    running = [trial for trial in trials if trial.state == "running"]
    to_come = [trial for trial in trials if trial.state == "planned"]
    known = _pools(trials)
    pools = [
        known.get((trial.stage, trial.batch_size)) or known.get((trial.stage, None), [])
        for trial in (*running, *to_come)
    ]
    if not running or not all(pools):
        return None
    draws = int(np.clip(MOST_DRAWN // len(pools), 20, DRAWS))
    rng = np.random.default_rng(0)
    times = np.array([rng.choice(pool, draws) * _off(pool, draws, rng) for pool in pools])
    spent = np.array([trial.held for trial in running])[:, None]
    rest = times[: len(running)]
    times[: len(running)] = np.where(rest > spent, rest - spent, 0.1 * rest)
    slots = max(1, round(sum(1 / trial.lanes for trial in running)))
    ends = [_end(column, slots) for column in times.T]
    low, middle, high = np.quantile(ends, (0.05, 0.5, 0.95))
    expected = times.mean(axis=1)
    held = [(trial.gpus, trial.cpus) for trial in (*running, *to_come)]
    gpus, cpus = (np.array(column) for column in zip(*held, strict=True))
    sums = (float(part) for part in (expected.sum(), expected @ gpus, expected @ cpus))
    return Left(float(middle), float(low), float(high), *sums)


def spent(trials: Iterable[Timed]) -> tuple[float, float]:
    """GPU seconds and CPU seconds that all attempts have held so far."""
    ran = [(trial.gpu_seconds, trial.cpu_seconds) for trial in trials]
    return sum(gpu for gpu, _ in ran), sum(cpu for _, cpu in ran)


def _pools(trials: Sequence[Timed]) -> dict[tuple[str, int | None], list[float]]:
    """Times of trials that have ended, by stage and batch size; by stage alone under None."""
    pools: dict[tuple[str, int | None], list[float]] = defaultdict(list)
    of_diverged: dict[tuple[str, int | None], list[float]] = defaultdict(list)
    for trial in trials:
        if trial.state in ("ok", "diverged") and trial.held:
            for size in {trial.batch_size, None}:
                into = pools if trial.state == "ok" else of_diverged
                into[trial.stage, size].append(trial.held)
    return of_diverged | pools  # what diverges ends early


def _off(pool: list[float], draws: int, rng: np.random.Generator) -> np.ndarray:
    return np.exp(rng.normal(0.0, SPREAD / np.sqrt(len(pool)), draws))


def _end(seconds: np.ndarray, slots: int) -> float:
    """When the last one ends, each in its turn on the slot that is free first."""
    free = [0.0] * slots
    for second in seconds:
        heapq.heappush(free, heapq.heappop(free) + float(second))
    return max(free)
