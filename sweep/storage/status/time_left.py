"""When a run will have ended, with an interval, from the times of the trials that have ended.

A trial that has not ended holds its slot as long as one that has, drawn from those of its stage and
batch size, else from those of its stage; trials that are trained in one pass share one. Of a trial
that an earlier attempt has done a part of, what is left counts: the training after its newest
checkpoint, and the benchmarks that it has no scores of. Draws share
the slots that are busy now, first come first served; the interval is that of the draws. A run that
chooses its cells has as many trials as it runs at most, whether or not they are in its plan.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

SPREAD = 0.3
"""Standard deviation (natural log) of how long one trial takes beside another of its kind: machines
differ, and the first of a worker is slower. The mean of n trials is off by SPREAD / sqrt(n)."""

DRAWS = 200
MOST_DRAWN = 40_000
"""Trials times draws: many trials average out, and need fewer draws."""


class Timed(Protocol):
    """A planned trial, as `reader.TrialStatus`."""

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
    @property
    def trained(self) -> float: ...
    @property
    def scored(self) -> Sequence[str]: ...
    @property
    def again(self) -> bool: ...


class _Chosen(NamedTuple):
    """A trial that is still to be chosen."""

    stage: str
    gpus: float
    cpus: float
    batch_size: int | None = None
    state: str = "planned"
    held: float = 0.0
    gpu_seconds: float = 0.0
    cpu_seconds: float = 0.0
    lanes: int = 1
    trained: float = 0.0
    scored: Sequence[str] = ()
    again: bool = False


Scoring = Mapping[tuple[str, str], Sequence[float]]
"""(stage, benchmark) -> the seconds of each trial's scores that are there."""


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
    at_most: bool = False
    """Whether the run chooses its cells, and may end before it has chosen as many as it may."""


def time_left(
    trials: Sequence[Timed],
    stages: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    scoring: Scoring = MappingProxyType({}),
) -> Left | None:
    """None where nothing runs, or a stage with trials to come has none that has ended. `stages` are
    those of the run's manifest, `scoring` is of trials that have ended."""
    running = [trial for trial in trials if trial.state == "running"]
    to_come = _to_come(trials, stages)
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
    takes = {name: float(np.mean(seconds)) for name, seconds in scoring.items() if seconds}
    distinct = {id(pool): pool for pool in pools}
    means = {name: float(np.mean(pool)) for name, pool in distinct.items()}
    both = zip((*running, *to_come), pools, strict=True)
    shares = [
        _share(trial, means[id(pool)], stages.get(trial.stage, {}), takes) for trial, pool in both
    ]
    whole, times = times, times * np.array(shares)[:, None]
    spent = np.array([trial.held for trial in running])[:, None]
    rest = whole[: len(running)]
    rest = np.where(rest > spent, rest - spent, 0.1 * rest)
    times[: len(running)] = np.minimum(times[: len(running)], rest)
    slots = max(1, round(sum(1 / trial.lanes for trial in running)))
    ends = [_end(column, slots) for column in times.T]
    low, middle, high = np.quantile(ends, (0.05, 0.5, 0.95))
    expected = times.mean(axis=1)
    held = [(trial.gpus, trial.cpus) for trial in (*running, *to_come)]
    gpus, cpus = (np.array(column) for column in zip(*held, strict=True))
    sums = (float(part) for part in (expected.sum(), expected @ gpus, expected @ cpus))
    at_most = any("trials" in stage for stage in stages.values())
    return Left(float(middle), float(low), float(high), *sums, at_most=at_most)


def _to_come(trials: Sequence[Timed], stages: Mapping[str, Mapping[str, Any]]) -> list[Timed]:
    """Planned trials, and failed ones that are tried again; of a stage whose cells are chosen, as
    many as still run at most."""
    to_come: list[Timed] = [trial for trial in trials if _comes(trial)]
    for name, stage in stages.items():
        if (most := stage.get("trials")) is not None:
            left = max(most - sum(t.stage == name and not _comes(t) for t in trials), 0)
            planned = [trial for trial in to_come if trial.stage == name][:left]
            held = stage.get("resources", {})
            chosen = _Chosen(name, held.get("gpus", 0.0), held.get("cpus", 0.0))
            others = [trial for trial in to_come if trial.stage != name]
            to_come = [*others, *planned, *[chosen] * (left - len(planned))]
    return to_come


def _comes(trial: Timed) -> bool:
    return trial.state == "planned" or (trial.state == "failed" and trial.again)


def _share(
    trial: Timed,
    whole: float,
    stage: Mapping[str, Any],
    scoring: Mapping[tuple[str, str], float],
) -> float:
    """Of a whole trial's time, what is left of one; `whole` is the mean time of whole ones, and
    `scoring` the mean seconds of each (stage, benchmark)."""
    if not trial.trained:
        return 1.0
    wanted = [want["benchmark"] for want in stage.get("evaluations", [])]
    if not all((trial.stage, name) in scoring for name in wanted):
        return 1.0
    takes = {name: scoring[trial.stage, name] for name in wanted}
    training = max(whole - sum(takes.values()), 0.0)
    to_score = sum(seconds for name, seconds in takes.items() if name not in trial.scored)
    return min(((1 - trial.trained) * training + to_score) / whole, 1.0)


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
