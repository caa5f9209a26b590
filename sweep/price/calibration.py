"""What `--calibrate` measures (sweep/execution/calibrate.py), and of which benchmarks."""

from sweep.gridfile.keys.schema import Grid
from trainers import files
from trainers.specs.data import Model
from trainers.specs.fields import Count, Strict
from trainers.specs.lanes import OWN
from trainers.tasks import benchmarks


class StageSpeed(Strict):
    """A step takes `seconds_per_step + seconds_per_token * tokens`, measured at two batch sizes."""

    tokens_per_example: float
    seconds_per_step: float
    seconds_per_token: float
    setting: str = ""
    """`stage_setting` then."""


class BenchmarkSpeed(Strict):
    """An evaluation takes `seconds + seconds_per_item * items`, measured at two sizes."""

    seconds: float
    seconds_per_item: float
    items: int


class Calibration(Strict):
    """What `--calibrate` measured on one machine, with as many processes as trials run at once."""

    model: Model | None = None
    """As the grid named it then; None in records of earlier versions."""
    limit: Count | None = None
    """`evaluate.limit` then."""
    setting: str | None = None
    """`setting` then; None in records of earlier versions."""
    device: str
    at_once: int
    start_seconds: float
    """From the start of a process to its first trial."""
    trial_seconds: float
    """Loading and saving weights, in every trial."""
    stages: dict[str, StageSpeed]
    benchmarks: dict[str, BenchmarkSpeed]


NOT_SPEED = OWN | {
    "batch_size", "seed", "data_seed", "heldout", "epochs", "steps", "tokens",
    "save_every_minutes", "save_every_steps",
}  # fmt: skip
"""Fields of a stage that do not change how long a step takes for its tokens."""


def setting(grid: Grid) -> str:
    """Hash of what all speeds hang on: the model, what a process has, how models are scored."""
    has = grid.most_gpus
    share = min(has.gpus_per_trial, 1.0)  # measured on one GPU at most
    threads = (has.cpus_per_trial, has.threads, has.evaluation_threads)
    scored = grid.evaluate.model_dump(mode="json", exclude={"benchmarks", "data_dir"})
    return files.short_hash(grid.model.model_dump(), share, threads, has.max_concurrent, scored)


def stage_setting(grid: Grid, stage: str) -> str:
    """Hash of what a stage's own speed hangs on beside that."""
    spec = grid.stages[stage].cells[0][1]
    data = [source.model_dump(mode="json", exclude={"examples"}) for source in spec.sources]
    return files.short_hash(spec.model_dump(mode="json", exclude={*NOT_SPEED, "data"}), data)


def timed(grid: Grid) -> list[str]:
    """Benchmarks that are measured; those of reward models take a small part of the time."""
    listed = [name for name in grid.evaluate.benchmarks if name not in benchmarks.OF_STAGES]
    return [name for name in listed if benchmarks.find(name).scores != "reward"]


def unmeasured(grid: Grid, measured: Calibration) -> list[str]:
    """Stages and benchmarks that the grid has and a calibration has no speed of."""
    stages = [name for name in grid.stages if name not in measured.stages]
    return stages + [name for name in timed(grid) if name not in measured.benchmarks]
