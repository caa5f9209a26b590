"""Whether lanes gain by sharing a pass: an estimate, for `lanes: auto`.

On a GPU the plan's time of a step decides (`step_time`): a pass launches its kernels once for all
lanes, and batches that keep the device busy gain nothing. On a CPU the size of the model does.
"""

from sweep.gridfile.schema import Grid
from sweep.plan import step_time
from sweep.plan.step_time import Device, Size
from sweep.plan.trials import Trial
from trainers.models import load

LEAST = 1.1
"""Times as fast as alone, from which a pass is worth its memory."""

TOKENS_PER_EXAMPLE = 256
"""Where the grid's `price.tokens_per_example` does not say."""

FLOPS, BANDWIDTH = 4.95e14, 3.35e12
"""Of an H100, half of its FLOP/s in bfloat16, where `price` does not say."""

SMALL = 5_000_000
"""Parameters up to which a CPU gains, a guess between the tiny model and SmolLM2-135M: the calls of
operators take a good part of the time of a small model's step, arithmetic that of a large one's."""


def why_none(grid: Grid, trial: Trial) -> str:
    """Why no number of lanes of such trials gains; "" where some number may."""
    parameters = load.parameters(trial.model.name)
    size = "of unknown size" if parameters is None else f"of {parameters:,} parameters"
    if grid.trial_resources(trial.stage).gpus_per_trial:
        return "" if parameters else f"what lanes of a model {size} gain cannot be estimated"
    small = parameters is not None and parameters <= SMALL
    return "" if small else f"a CPU gains nothing by lanes of a model {size}"


def pays(grid: Grid, trial: Trial, lanes: int) -> bool:
    """Whether so many lanes are worth a pass."""
    if lanes == 1 or why_none(grid, trial):
        return False
    if not grid.trial_resources(trial.stage).gpus_per_trial:
        return True
    return _step(grid, trial, 1) >= LEAST * _step(grid, trial, lanes)


def _step(grid: Grid, trial: Trial, lanes: int) -> float:
    """Seconds of a step of one lane."""
    spec, price, share = trial.spec, grid.price, grid.trial_resources(trial.stage).gpus_per_trial
    parameters, layers = load.parameters(trial.model.name), step_time.layers(trial.model.name)
    assert spec is not None and parameters is not None
    flops = (price.utilisation or 1.0) * (price.device_flops or share * FLOPS)
    device = Device(flops, price.device_bandwidth or share * BANDWIDTH)
    tokens = spec.batch_size * (price.tokens_per_example or TOKENS_PER_EXAMPLE)
    size = Size(parameters, layers or 1, lanes=lanes)
    return step_time.training_step(
        size, tokens, device, spec.tokens_per_micro_batch, spec.optimizer
    )
