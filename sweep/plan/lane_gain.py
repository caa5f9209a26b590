"""Whether lanes gain by sharing a pass: an estimate, for `lanes: auto`.

On a GPU the plan's time of a step decides (`step_time`): a pass launches its kernels once for all
lanes, and batches that keep the device busy gain nothing. A CPU gains an eighth at most, with the
tiny model at batch 4, and nothing with longer steps or larger models
(`python -m tests.bench.bench_lanes`).
"""

import math

from sweep.gridfile.keys.schema import Grid
from sweep.plan import step_time
from sweep.plan.step_time import Device
from sweep.plan.trials import Trial, cost

LEAST = 1.1
"""Times as fast as alone, from which a pass is worth its memory."""

TOKENS_PER_EXAMPLE = 256
"""Where the grid's `price.tokens_per_example` does not say."""

FLOPS, BANDWIDTH = 4.95e14, 3.35e12
"""Of an H100, half of its FLOP/s in bfloat16, where `price` does not say."""


def why_none(grid: Grid, trial: Trial) -> str:
    """Why no number of lanes of such trials gains; "" where some number may."""
    if not grid.trial_resources(trial.stage).gpus_per_trial:
        return "a CPU gains next to nothing by lanes"
    known = step_time.size_of(grid, trial) is not None
    return "" if known else "what lanes of a model of unknown size gain cannot be estimated"


def pays(grid: Grid, trial: Trial, lanes: int) -> bool:
    """Whether so many lanes are worth a pass."""
    if lanes == 1 or why_none(grid, trial):
        return False
    return _step(grid, trial, 1) >= LEAST * _step(grid, trial, lanes)


def _step(grid: Grid, trial: Trial, lanes: int) -> float:
    """Seconds of a step of one lane."""
    spec, price, share = trial.spec, grid.price, grid.trial_resources(trial.stage).gpus_per_trial
    size = step_time.size_of(grid, trial, lanes)
    assert spec is not None and size is not None
    flops = (price.utilisation or 1.0) * (price.device_flops or share * FLOPS)
    device = Device(flops, price.device_bandwidth or share * BANDWIDTH)
    tokens = spec.batch_size * (price.tokens_per_example or TOKENS_PER_EXAMPLE)
    return step_time.training_step(
        size._replace(layers=size.layers or 1),
        tokens,
        device,
        spec.tokens_per_micro_batch,
        spec.optimizer,
        cost(trial).steps or math.inf,
    )
