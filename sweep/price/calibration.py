"""What `--calibrate` (sweep/execution/calibration) measures, of which trainings and benchmarks."""

from typing import NamedTuple

from analysis.text import listed
from sweep.gridfile.keys.axes import NESTED, RATIO
from sweep.gridfile.keys.schema import Grid, Stage
from sweep.plan.trials import values_of
from trainers import files
from trainers.specs.data import Model
from trainers.specs.fields import Count, Strict
from trainers.specs.kinds import StageSpec
from trainers.specs.lanes import OWN
from trainers.tasks import benchmarks

VERSION = 2
"""Of what is measured. Version 1 took every GPU for a CPU where answers are written."""


class StageSpeed(Strict):
    """A step takes `seconds_per_step + seconds_per_token * tokens` in one process, measured at two
    batch sizes."""

    tokens_per_example: float
    seconds_per_step: float
    seconds_per_token: float
    setting: str = ""
    """`training_setting` then."""


class BenchmarkSpeed(Strict):
    """An evaluation takes `seconds + seconds_per_item * items` in one process, measured at two
    sizes."""

    seconds: float
    seconds_per_item: float
    items: int


class Calibration(Strict):
    """What `--calibrate` measured on one machine, with as many processes as trials run at once."""

    version: int = 1
    """`VERSION` then."""
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
    """By the words of `Training`; several of a stage whose cells take different times."""
    benchmarks: dict[str, BenchmarkSpeed]

    def speed_of(self, spec: StageSpec) -> StageSpeed | None:
        """Of a training with such settings; None where none was measured."""
        setting = training_setting(spec)
        return next((speed for speed in self.stages.values() if speed.setting == setting), None)


class Training(NamedTuple):
    """Cells whose steps take the same time for their tokens."""

    words: str
    """`sft`; `sft / lora, adapter.rank=8` where other cells of the stage take other times."""
    cells: list[tuple[str, int]]
    """Of each its stage and its number there."""


NOT_SPEED = OWN | {
    "batch_size", "seed", "data_seed", "heldout", "epochs", "steps", "tokens",
    "save_every_minutes", "save_every_steps",
}  # fmt: skip
"""Fields of a stage that do not change how long a step takes for its tokens."""


def setting(grid: Grid) -> str:
    """Hash of what all speeds hang on: the model, what a process has, how models are scored."""
    has = grid.most_gpus
    share = min(has.gpus_per_trial, 1.0)  # measured on one GPU at most
    threads = (has.cpus_per_trial, has.threads, scoring_threads(grid))
    scored = grid.evaluate.model_dump(mode="json", exclude={"benchmarks", "data_dir"})
    return files.short_hash(grid.model.model_dump(), share, threads, has.max_concurrent, scored)


def scoring_threads(grid: Grid) -> int:
    """CPU threads of each process that scores."""
    has = grid.most_gpus
    alone = has.ranks == 1 or grid.evaluate.backend == "vllm"
    return has.evaluation_threads if alone else has.threads


def training_setting(spec: StageSpec) -> str:
    """Hash of what the time of a training's steps hangs on beside that."""
    data = [source.model_dump(mode="json", exclude={"examples"}) for source in spec.sources]
    return files.short_hash(spec.model_dump(mode="json", exclude={*NOT_SPEED, "data"}), data)


def trainings(grid: Grid) -> dict[str, Training]:
    """`training_setting` -> the cells that have it."""
    cells: dict[str, list[tuple[str, int]]] = {}
    settings: dict[str, set[str]] = {}
    for name, stage in grid.stages.items():
        for number, (_, spec) in enumerate(stage.cells):
            setting = training_setting(spec)
            cells.setdefault(setting, []).append((name, number))
            settings.setdefault(name, set()).add(setting)
    return {
        setting: Training(_words(grid.stages[of[0][0]], of[0][1], len(settings[of[0][0]])), of)
        for setting, of in cells.items()
    }


def _words(stage: Stage, number: int, settings: int) -> str:
    if settings == 1:
        return stage.name
    arm, spec = stage.cells[number]
    axes = next(one.axes for one in stage.arms if one.name == arm)
    varied = [
        axis
        for axis, values in axes.items()
        if len(values) > 1 and axis.partition(NESTED)[0] not in {*NOT_SPEED, RATIO}
    ]
    label = ", ".join(part for part in (arm, values_of(spec, varied)) if part)
    return f"{stage.name} / {label}"


def sharded(grid: Grid) -> str:
    """The stages whose trials divide their model over processes, in words; none is measured."""
    names = [name for name, stage in grid.stages.items() if stage.resources.sharding != "none"]
    return listed(names) if names else ""


def timed(grid: Grid) -> list[str]:
    """Benchmarks that are measured; those of reward models take a small part of the time."""
    listed = [name for name in grid.evaluate.benchmarks if name not in benchmarks.OF_STAGES]
    return [name for name in listed if benchmarks.find(name).scores != "reward"]


def unmeasured_trainings(grid: Grid, measured: Calibration) -> list[str]:
    """Trainings, in words, that the grid has and a calibration has no speed of."""
    known = {speed.setting for speed in measured.stages.values()}
    return [one.words for setting, one in trainings(grid).items() if setting not in known]


def unmeasured(grid: Grid, measured: Calibration) -> list[str]:
    """The same with the benchmarks."""
    others = [name for name in timed(grid) if name not in measured.benchmarks]
    return unmeasured_trainings(grid, measured) + others
