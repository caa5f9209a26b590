"""The frozen Grid: every key that a grid file may have, with its meaning and its unit.

A stage's own keys are in trainers/specs/. What is wrong with a file is found in
sweep/gridfile/load.py.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from sweep.gridfile.keys.axes import Scalar
from sweep.gridfile.keys.choosers import Decide, Search
from sweep.gridfile.keys.resources import Resources, TrialResources
from sweep.gridfile.keys.trackers import Notify, Tracking
from trainers.specs.data import Model
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.fields import Count, Positive, Share, Strict
from trainers.specs.kinds import StageSpec

BASE = "base"
"""What a stage starts from when it starts from the grid's model; no stage may have this name."""

REFERENCE = "reference"
"""The stage, in tables, of the models that are scored and never trained; no other may have this
name."""

MAX_CELLS = 20_000
"""Of one stage, and as many of its models."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names become parts of paths."""

Name = Annotated[str, Field(pattern=NAME)]


class Limits(Strict):
    """When one start of the command stops on its own; the same command continues from there."""

    max_hours: Positive | None = None
    """Start no trial after this many hours; running ones save a checkpoint and stop."""
    max_trials: Count | None = None
    """Start at most this many models, those that are only scored among them."""
    max_cost: Positive | None = None
    """Of the whole run, earlier starts included, in `price.currency`: start no trial that is
    expected to cost more than is left; where it is reached all the same, running ones save a
    checkpoint and stop. Raise it, and the same command continues."""
    max_trial_hours: Positive | None = None
    """A trial that takes longer ends as failed."""


class Audit(Strict):
    """What the training data holds of the benchmarks, and in which languages it is; found once,
    before any trial. Never part of a trial's identity."""

    contamination: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """Benchmarks to look for: names from trainers/tasks/registry.py or of the paper's Table 1
    (trainers/tasks/items.py), local files or folders of items (with the fields to compare:
    PATH:field+field), or NAME=PATH."""
    languages: bool = False
    """Whether the languages of the training data are counted."""
    n: Count = 8
    """Tokens of the n-grams that item and training document have to share."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """An item is contaminated where one document covers a share of its tokens above this."""
    turns: Literal["user", "assistant", "all"] = "user"
    """Turns of a conversation that are looked at, each as a document of its own; plain text always
    is."""
    normalisation: Literal["tulu", "words", "none"] = "tulu"
    """Tokens: `tulu` splits at spaces and the punctuation that Tulu 3's index splits at, `words`
    keeps letters and digits alone, both without case; `none` splits at spaces and keeps all."""


class Pricing(Strict):
    """What an hour costs, and what is known of speed, for the hours of a plan; `--calibrate`
    measures speed instead."""

    gpu_hour: Positive | None = None
    """Price of one GPU for an hour; a trial on half a GPU costs half of it."""
    cpu_hour: Positive | None = None
    """Price of one CPU core for an hour, on top of that of GPUs."""
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    """Of both, by its three letters (ISO 4217)."""
    tokens_per_example: Positive | None = None
    """Mean tokens of a training example, padding left out."""
    tokens_per_second: Positive | None = None
    """Training tokens per second of one trial."""
    utilisation: Share | None = None
    """Share of `device_flops` that training reaches, where `tokens_per_second` is not given; on a
    GPU that its matrix products reach, and what else takes time comes on top."""
    device_flops: Positive | None = None
    """Peak FLOP/s of what one trial has."""
    device_bandwidth: Positive | None = None
    """Bytes per second that one trial has of a GPU's memory; when empty it is not counted."""


class Arm(Strict):
    """The stage's grid once more under other settings, as a control, or over axes of its own."""

    name: Name
    set: dict[str, Any] = Field(default_factory=dict)
    """Keys of training, in the place of the stage's."""
    grid: dict[str, Any] = Field(default_factory=dict)
    """Axes beside those of the stage's `grid`, or in the place of those of the same key."""


Keep = Literal["all", "none", "best"]


class Best(Strict):
    """The parent is one model of the stage that is started from, chosen when all have their scores
    and recorded in the run folder (sweep/schedule/selection.py)."""

    best: Annotated[str, Field(min_length=1)] | None = None
    """Benchmark by whose primary metric, a mean over seeds, it is chosen; when empty, the one that
    `keep: best` goes by."""


EACH = "each"
"""A stage's `parent` where every model of the stage that it starts from is one."""


class ArmAxes(Strict):
    """The axes that an arm of a stage goes over; the name is "" where a stage has no arms."""

    name: str
    axes: dict[str, tuple[Scalar, ...]]
    own: tuple[str, ...] = ()
    """Those that stand in the arm's own `grid`."""


class Stage(Strict):
    """One stage, its cells already validated: `cells` holds (arm's name, spec) in the file's
    order."""

    name: str
    start_from: str
    """The stage whose models it starts from; `base` is the model itself."""
    parent: Best | str = EACH
    """Which models of `start_from` are started from: `each`, the `best`, or the one with this
    key."""
    keep: Keep = "all"
    """Final weights that stay on disk once their scores and the stages that start from them are
    done. `best` keeps those of one trial: the best on the stage's held-out slice, or, where it
    holds nothing out, on the first benchmark."""
    resources: TrialResources
    """What a trial of this stage gets: the grid's, less what the stage says otherwise."""
    arms: tuple[ArmAxes, ...]
    cells: tuple[tuple[str, StageSpec], ...]
    screens: str = ""
    """The stage of which this one runs cells at a part of their length, for `decide.fidelity`
    (sweep/gridfile/screening.py)."""

    @property
    def axes(self) -> dict[str, tuple[Scalar, ...]]:
        """Every axis of any arm, with its values in all of them."""
        axes: dict[str, tuple[Scalar, ...]] = {}
        for arm in self.arms:
            for key, values in arm.axes.items():
                axes[key] = tuple(dict.fromkeys((*axes.get(key, ()), *values)))
        return axes

    @property
    def searched_axes(self) -> dict[str, tuple[Scalar, ...]]:
        """What a search chooses from: seeds are repeats of a cell, not cells."""
        several = {k for arm in self.arms for k, values in arm.axes.items() if len(values) > 1}
        return {k: values for k, values in self.axes.items() if k in several - {"seed"}}

    def axis_place(self, key: str, arm: str | None = None) -> tuple[str | int, ...]:
        """Where in the file an axis (of an arm) stands."""
        for index, other in enumerate(self.arms):
            if key in other.own and arm in (None, other.name):
                return ("stages", self.name, "arms", index, "grid", key)
        return ("stages", self.name, "grid", key)


class Named(Strict):
    name: Name
    """Of the run: its folder, its page and its models are named after it."""


class Grid(Named):
    model: Model
    """What every chain of stages starts from."""
    references: tuple[Model, ...] = ()
    """Other models that are scored as they are, for comparison: never trained, never started
    from."""
    stages: dict[str, Stage] = Field(default_factory=dict)
    """Trainings by name; their order is that of `start_from`."""
    evaluate: EvaluateSpec
    """What every model is scored on."""
    resources: Resources = Resources()
    """What a trial gets, and how failures are met."""
    limits: Limits = Limits()
    """When a run or a trial ends early."""
    price: Pricing = Pricing()
    """What the plan reckons time and cost with."""
    tracking: Tracking = Tracking()
    """Trackers that follow the run."""
    notify: Notify | None = None
    """Who is told of the run's end and its troubles."""
    search: Search | None = None
    """A search in the place of the whole grid."""
    decide: Decide | None = None
    """A run that chooses its cells for the answers, and stops when these are there."""
    audit: Audit = Audit()
    """What is looked for in the training data."""
    declared: dict[str, Any]
    """The file's data with the overrides applied; loading it again gives the same grid."""
    notes: tuple[str, ...] = ()
    """What was read otherwise than it was written, a line each."""

    @property
    def scored_stages(self) -> tuple[str, ...]:
        """Every stage that has models to score, those that are not trained among them."""
        return (BASE, *([REFERENCE] if self.references else []), *self.stages)

    def trial_resources(self, stage: str) -> TrialResources:
        """What a trial of the stage gets; of models that are not trained, what the grid says."""
        return self.stages[stage].resources if stage in self.stages else self.resources

    @property
    def most_gpus(self) -> Resources:
        """What a trial gets of the stage that asks for most GPUs, and how many run at once."""
        asked = [self.trial_resources(stage) for stage in self.scored_stages]
        most = max(asked, key=lambda resources: resources.gpus_per_trial)
        return self.resources.model_copy(update=dict(most))


GRID_KEYS = tuple(key for key in Grid.model_fields if key not in ("declared", "notes"))
SAME_FOR_ALL = ("data", "data_seed", "heldout")
"""Keys of a spec that may not be an axis: a stage's cells have one held-out slice."""
STAGE_KEYS = ("start_from", "parent", "keep", "resources", "grid", "arms")
"""Keys of a stage beside those of its spec."""
