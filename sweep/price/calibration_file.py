"""calibration.json: what `--calibrate` measured, as far as it holds for a grid."""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from analysis.text import listed
from sweep.gridfile.keys.schema import Grid
from sweep.price.calibration import (
    VERSION,
    Calibration,
    setting,
    sharded,
    trainings,
    unmeasured_trainings,
)
from trainers import files
from trainers.files import Damaged


def read(path: Path, grid: Grid, say: Callable[[str], None]) -> Calibration | None:
    """What was measured before, as far as it holds for the grid of now: None where it does not,
    without the trainings that the grid no longer has. What is left out is said.

    Raises:
        Damaged: the record is not whole, or of another form.
    """
    record = files.read_json(path)
    try:
        measured = None if record is None else Calibration.model_validate(record)
    except ValidationError as error:
        raise Damaged(f"{path}: not as --calibrate writes it; measure again") from error
    if measured is None:
        return None
    if otherwise := _otherwise(measured, grid):
        again = "" if sharded(grid) else "; --calibrate measures again"
        say(f"{path}: measured {otherwise}, so it does not count{again}")
        return None
    if lacking := unmeasured_trainings(grid, measured):
        say(
            f"{path}: nothing was measured with the settings of {listed(lacking)}, so these hours "
            "are unknown; --calibrate measures again"
        )
    known = trainings(grid)
    stages = {name: speed for name, speed in measured.stages.items() if speed.setting in known}
    return measured.model_copy(update={"stages": stages})


def _otherwise(measured: Calibration, grid: Grid) -> str:
    """How a record was measured that says nothing of the trials of now; "" where it does."""
    on_gpu = grid.most_gpus.gpus_per_trial > 0
    if measured.setting is None or (on_gpu and measured.version < VERSION):
        return "by an earlier version"
    if on_gpu and measured.device != "cuda":
        return "without a GPU, and trials ask for one"
    if names := sharded(grid):
        return f"in one process that holds the whole model, and trials of {names} divide it"
    if measured.setting == setting(grid):
        return ""
    if (measured.model, measured.limit) != (grid.model, grid.evaluate.limit) and measured.model:
        limit = "no" if measured.limit is None else measured.limit
        return f"on {measured.model.name} with {limit} evaluate.limit"
    return "with other resources, or other settings of `evaluate`"
