"""What a plan will take: FLOPs, tokens, hours and device-hours, stated by the grid or measured.

Training takes 6 N D FLOPs and a forward pass 2 N D, for N parameters and D tokens (Kaplan et al.
2020, arXiv 2001.08361, section 2.1). Under an adapter of A weights training takes (4 N + 6 A) D:
frozen weights hand gradients down and take none. Hours come, in this order, from a calibration
(sweep/execution/calibration), which is of one process, from the grid's `price.tokens_per_second`,
or from its `utilisation` of `device_flops`. There, where trials ask for GPUs, each optimizer step
takes at least what its launches take (sweep/plan/step_time.py).
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sweep.gridfile.keys.schema import Grid
from sweep.plan import step_time
from sweep.plan.bundles import Bundles
from sweep.plan.disk import running_at_once
from sweep.plan.evaluations import fits
from sweep.plan.step_time import Device, Size
from sweep.plan.trials import Trial, cost
from sweep.price.calibration import Calibration, StageSpeed, timed
from trainers.data.row_counts import Counts
from trainers.models import at_hand
from trainers.processes import devices
from trainers.tasks import benchmarks, item_counts


class Price(NamedTuple):
    """Of one trial or of many, one after another; None where nothing is known."""

    train_flops: float | None
    eval_flops: float | None
    tokens: float | None
    """Tokens trained on."""
    train_hours: float | None
    eval_hours: float | None

    @property
    def hours(self) -> float | None:
        return _sum([self.train_hours, self.eval_hours])


def price(
    grid: Grid,
    trial: Trial,
    measured: Calibration | None,
    prepared: Counts | None = None,
    lanes: int = 1,
) -> Price:
    """Of training and scoring one trial, or of one of so many that are trained in one pass;
    `prepared` has the tokens of its examples, if known."""
    parameters = at_hand.parameters(trial.model.name)
    measured_speed = None
    if measured is not None and trial.spec is not None:
        measured_speed = measured.speed_of(trial.spec)
    tokens = _tokens(grid, trial, measured_speed, prepared)
    eval_tokens = _eval_tokens(grid, trial)
    size = step_time.size_of(grid, trial, lanes)
    train_flops = 0.0 if trial.spec is None else _training_flops(size, tokens)
    eval_flops = _times(2, parameters, eval_tokens)
    speed = _flops_per_second(grid, parameters)
    train_hours = _hours(train_flops, speed)
    eval_hours = _hours(eval_flops, speed)
    stated = grid.price.tokens_per_second
    if stated is not None:
        train_hours = _hours(tokens, stated)
        eval_hours = _hours(eval_tokens, 3 * stated)  # a third of the FLOPs
    steps = cost(trial, prepared).steps
    if steps is None and trial.spec is not None and trial.spec.tokens is not None:
        per_example = grid.price.tokens_per_example
        if per_example is not None:
            steps = math.ceil(trial.spec.tokens / per_example / trial.spec.batch_size)
    resources = grid.trial_resources(trial.stage)
    on_gpu = resources.gpus_per_trial > 0
    if on_gpu and size is not None and size.layers and speed is not None and measured is None:
        device = Device(speed, grid.price.device_bandwidth)
        if stated is None:
            train_hours = _gpu_training(trial, size, steps, tokens, device)
        train_hours = _plus(train_hours, _gpu_rollouts(trial, size, steps, device))
        eval_hours = _plus(eval_hours, _gpu_decoding(grid, trial, size, device))
    if measured is not None:
        seconds = _measured_training(trial, steps, tokens, measured_speed, lanes, resources.ranks)
        train_hours = _times(_plus(seconds, measured.trial_seconds), 1 / 3600)
        seconds = _sum(list(_measured_evaluation(grid, trial, measured)))
        bigger = _size(parameters, at_hand.parameters(grid.model.name))
        eval_hours = _times(seconds, 1 / 3600, bigger)
    return Price(train_flops, eval_flops, tokens, train_hours, eval_hours)


def _training_flops(size: Size | None, tokens: float | None) -> float | None:
    return None if size is None else _times(size.training_flops, tokens)


def total(prices: Iterable[Price]) -> Price:
    columns = zip(*prices, strict=True)
    return Price(*(_sum(list(column)) for column in columns))


GPUS = (1, 8, 64)
"""Numbers of GPUs that a plan names wall times for."""


def places(grid: Grid, measured: Calibration | None) -> dict[str, int]:
    """Where the plan may run, in words, and how many trials run there at once; empty where that
    is unknown."""
    resources = grid.most_gpus
    most = resources.max_concurrent
    if resources.gpus_per_trial and (measured is None or measured.device == "cuda"):
        counts = {gpus: devices.on_gpus(gpus, resources.gpus_per_trial) for gpus in GPUS}
        return {
            f"on {gpus} GPU{'s' * (gpus != 1)}": min(count, most or count)
            for gpus, count in counts.items()
            if count
        }
    if measured is not None:
        return {"here": measured.at_once}
    return {} if most is None else {"as the grid says": most}


def slots(grid: Grid, measured: Calibration | None) -> int:
    """Trials at once that a plan is made for: at the first of its places, or on this machine."""
    return next(iter(places(grid, measured).values()), 0) or running_at_once(grid.most_gpus)


def wall_hours(
    grid: Grid,
    planned: Sequence[Trial],
    prices: Sequence[Price],
    at_once: int,
    measured: Calibration | None,
) -> float | None:
    """Hours of the whole run with so many trials, or passes over several, at once: a child waits
    for its parent's weights, and a pass holds its place until its trials have their scores. None
    where the hours of a trial are unknown."""
    if any(price.hours is None for price in prices):
        return None
    free = [measured.start_seconds / 3600 if measured else 0.0] * at_once
    of_trial = dict(zip((trial.key for trial in planned), prices, strict=True))
    passes = {
        trial.key: bundle for bundle in Bundles(grid).likely(planned, at_once) for trial in bundle
    }
    trained: dict[str | None, float] = {None: 0.0}
    for trial in planned:
        if trial.key in trained:  # in a pass with an earlier one
            continue
        begin = max(heapq.heappop(free), trained[trial.parent])
        if trial.waits:  # for all that it may start from, and their scores
            begin = max(begin, *free)
        lanes = passes.get(trial.key, [trial])
        together = total(of_trial[lane.key] for lane in lanes)
        ready = begin + (together.train_hours or 0.0 if trial.spec else 0.0)
        trained |= dict.fromkeys((lane.key for lane in lanes), ready)
        heapq.heappush(free, begin + (together.hours or 0.0))
    return max(free)


def _tokens(
    grid: Grid, trial: Trial, speed: StageSpeed | None, prepared: Counts | None
) -> float | None:
    if trial.spec is None:
        return 0.0
    if trial.spec.tokens is not None:
        return float(trial.spec.tokens)
    per_example = grid.price.tokens_per_example
    if speed is not None:
        per_example = speed.tokens_per_example
    if prepared is not None and trial.spec.FORM != "prompts":  # what is written is not there yet
        per_example = prepared.tokens_per_example
    return _times(cost(trial, prepared).examples, per_example)


def _eval_tokens(grid: Grid, trial: Trial) -> float | None:
    scored = map(benchmarks.find, _listed(grid, trial.stage))
    return _sum(
        [
            _times(item_counts.scored(benchmark, grid.evaluate), benchmark.tokens_per_item)
            for benchmark in scored
        ]
    )


def _listed(grid: Grid, stage: str) -> list[str]:
    """Benchmarks of the grid that score a stage's models, without its held-out slices."""
    names = [name for name in grid.evaluate.benchmarks if name not in benchmarks.OF_STAGES]
    return [name for name in names if fits(grid, stage, name)]


def _flops_per_second(grid: Grid, parameters: int | None) -> float | None:
    if grid.price.tokens_per_second is not None:
        return _times(6, parameters, grid.price.tokens_per_second)
    return _times(grid.price.utilisation, grid.price.device_flops)


def _gpu_training(
    trial: Trial, size: Size, steps: int | None, tokens: float | None, device: Device
) -> float | None:
    """Hours of the optimizer steps."""
    spec = trial.spec
    if spec is None:
        return 0.0
    if steps is None or tokens is None:
        return None
    seconds = steps * step_time.training_step(
        size, tokens / steps, device, spec.tokens_per_micro_batch, spec.optimizer, steps
    )
    return seconds / 3600


def _gpu_rollouts(trial: Trial, size: Size, steps: int | None, device: Device) -> float | None:
    """Hours in which RLVR writes its completions, a token at a time."""
    spec = trial.spec
    if spec is None or spec.kind != "rlvr":
        return 0.0
    written = step_time.decoding(size, spec.batch_size, spec.max_new_tokens, device)
    return _times(steps, written, 1 / 3600)


def _gpu_decoding(grid: Grid, trial: Trial, size: Size, device: Device) -> float | None:
    """Hours in which the answers of generative benchmarks are written."""
    seconds: list[float | None] = [0.0]
    for name in _listed(grid, trial.stage):
        benchmark = benchmarks.find(name)
        if tokens := benchmarks.longest_answer(benchmark, grid.evaluate):
            items = item_counts.scored(benchmark, grid.evaluate)
            seconds.append(
                None if items is None else step_time.decoding(size, items, tokens, device)
            )
    return _times(_sum(seconds), 1 / 3600)


def _plus(*values: float | None) -> float | None:
    return _sum(list(values))


def _measured_training(
    trial: Trial,
    steps: int | None,
    tokens: float | None,
    speed: StageSpeed | None,
    lanes: int,
    ranks: int,
) -> float | None:
    """Seconds; the tokens of a step are divided over the processes of a trial, and what it takes
    beside them is shared by lanes."""
    if trial.spec is None:
        return 0.0
    if steps is None and speed is not None and trial.spec.tokens is not None:
        steps = math.ceil(trial.spec.tokens / speed.tokens_per_example / trial.spec.batch_size)
    if speed is None or steps is None or tokens is None:
        return None
    return speed.seconds_per_step * steps / lanes + speed.seconds_per_token * tokens / ranks


def _measured_evaluation(grid: Grid, trial: Trial, measured: Calibration) -> Iterable[float | None]:
    """Seconds of each benchmark; its items are divided over the processes of a trial, unless by
    vLLM, which takes one GPU."""
    alone = grid.evaluate.backend == "vllm"
    ranks = 1 if alone else grid.trial_resources(trial.stage).ranks
    for name in timed(grid):
        if fits(grid, trial.stage, name):
            speed = measured.benchmarks.get(name)
            yield speed and speed.seconds + speed.seconds_per_item * speed.items / ranks


def _size(parameters: int | None, measured: int | None) -> float | None:
    """Of a model, in those that were measured: it takes as many times longer."""
    if parameters == measured:
        return 1.0
    return None if parameters is None or measured is None else parameters / measured


def _hours(flops: float | None, flops_per_second: float | None) -> float | None:
    return None if flops is None or not flops_per_second else flops / flops_per_second / 3600


def _times(*factors: float | None) -> float | None:
    product = 1.0
    for factor in factors:
        if factor is None:
            return None
        product *= factor
    return product


def _sum(values: list[float | None]) -> float | None:
    return None if None in values else sum(value for value in values if value is not None)
