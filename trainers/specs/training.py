"""The keys that every kind of training has, and those of SFT.

The docstrings of the fields are the documentation of the grid file.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from trainers.specs.adapter import Adapter
from trainers.specs.data import Data, DataSpec
from trainers.specs.fields import Count, Positive, Share, absent
from trainers.specs.file_names import NamesFile
from trainers.specs.identity import HELDOUT_EXAMPLES, identified
from trainers.specs.optimizer import OptimizerSpec

INSTEAD = (
    ("epochs", "steps", "tokens"),
    ("warmup_ratio", "warmup_steps", "warmup_tokens"),
    ("adam_beta2", "adam_beta2_half_life_tokens"),
)
"""Fields of which one may be given; null takes back what a stage gave, for an arm."""


Schedule = Literal["linear", "cosine", "constant", "warmup_stable_decay"]


class HeldoutScore(NamedTuple):
    """The benchmark that a stage's held-out slice is."""

    benchmark: str
    metric: str
    higher_is_better: bool
    before: bool
    """Whether the model that the stage starts from can be scored on it too."""
    unit_of: tuple[str, ...] = ()
    """Fields of the spec that decide the metric's unit."""
    in_one_unit: "HeldoutScore | None" = None
    """What the same evaluation is called, and which of its metrics counts, where the cells of a
    stage differ in one of these."""
    without_reference: "HeldoutScore | None" = None
    """The same where the models of a stage have unlike references."""


def heldout_score(
    specs: Sequence["TrainingSpec"], several_starts: bool = False
) -> HeldoutScore | None:
    """What the held-out slice of a stage is called, comparable over all of its models;
    `several_starts` where they start from models of several settings."""
    score = specs[0].HELDOUT
    if score is None:
        return None
    in_4_bits = {spec.adapter is not None and spec.adapter.in_4_bits for spec in specs}
    if score.without_reference is not None and (several_starts or len(in_4_bits) > 1):
        return score.without_reference
    units = {tuple(getattr(spec, field) for field in score.unit_of) for spec in specs}
    return score if len(units) == 1 else score.in_one_unit


class TrainingSpec(OptimizerSpec):
    """What every kind of training has. The kinds are listed in trainers/specs/kinds.py."""

    FORM: ClassVar[Literal["texts", "pairs", "prompts"]] = "texts"
    """What a row of the data is: one text, a chosen and a rejected one, or a prompt that the model
    is to answer itself (trainers/data/prepare.py)."""
    UNIT: ClassVar[str] = "examples"
    """What `batch_size` counts, for the plan."""
    DATA_FIELDS: ClassVar[tuple[str, ...]] = ("heldout", "max_length", "chat_template")
    """Fields that decide how rows become examples, beside those that say which rows."""
    SCORE_FIELDS: ClassVar[tuple[str, ...]] = ()
    """Fields that decide, beside the examples, what a model scores on the held-out slice."""
    LEAVES: ClassVar[Literal["policy", "reward"]] = "policy"
    """What the stage leaves: a model that writes, or one that judges. Decides which benchmarks it
    is scored on, and what may start from it."""
    HELDOUT: ClassVar[HeldoutScore | None] = HeldoutScore("heldout_loss", "loss", False, True)
    """What is measured on the held-out slice; None for nothing."""

    NEEDS_REFERENCE: ClassVar[bool] = False
    """Whether it reads the log-probabilities of the model that it starts from, which a pass of its
    own computes once for all cells."""
    HAS_LANES: ClassVar[bool] = False
    """Whether trials of this kind may be trained in one pass (trainers/lanes)."""

    kind: str
    """What is trained: `sft`, `dpo`, `reward` or `rlvr`."""
    data: Data
    """A data set, or a list of them to be mixed, each with its weight. An example is of one data
    set; their order is mixed."""
    data_seed: Annotated[int, Field(ge=0, lt=2**32, exclude_if=lambda seed: seed == 0)] = 0
    """Decides which rows `examples`, `weight` and `heldout` take and how they are mixed, for all
    cells of the stage alike."""
    batch_size: Count
    """Examples per optimizer step, whatever the hardware."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Decides the order of the examples."""
    epochs: Positive | None = None
    """Passes over the data; 1 where neither epochs, steps nor tokens is given. The last batch of a
    pass is what is left."""
    steps: Count | None = None
    """Optimizer steps, instead of epochs."""
    tokens: Count | None = None
    """Tokens of the examples taken, instead of epochs; the step that reaches them is the last."""
    schedule: Schedule = "linear"
    """The learning rate after warmup: falling to zero, by a line or half a cosine; constant; or
    constant and then falling to zero by a line."""
    decay_ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the optimizer steps in which the rate of `warmup_stable_decay` falls."""
    warmup_ratio: Share | None = 0.0
    """Share of the optimizer steps in which the rate rises from zero."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Optimizer steps of warmup, instead of a ratio."""
    warmup_tokens: Annotated[int, Field(ge=0)] | None = None
    """Tokens of warmup, instead of a ratio."""
    max_length: Annotated[int, Field(ge=2)] = 2048
    """Longest example in tokens; what lies beyond is cut off."""
    adapter: Annotated[Adapter | None, Field(exclude_if=absent)] = None
    """Train a low-rank adapter on frozen weights; all weights are trained when empty."""
    heldout: Annotated[int, Field(ge=0)] | None = None
    """Examples kept out of training, the same for every trial; their loss is the benchmark
    `heldout_loss`. When empty, 200, and at most a tenth of the data."""
    chat_template: Annotated[str | None, NamesFile("file"), Field(exclude_if=absent)] = None
    """File of a Jinja chat template (.jinja) that the stage's models are trained and evaluated
    with, in place of the tokenizer's own. Its content is part of a trial's key, its path is not.
    Mark what the assistant writes with `{% generation %}` ... `{% endgeneration %}`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward and backward pass; `auto` is bfloat16 where the GPU has it.
    Weights are float32."""
    divergence_factor: Annotated[float, Field(gt=1)] = 3.0
    """The trial ends as diverged once the smoothed loss is this many times its start (the first
    loss, or 1 nat where that is lower) ..."""
    divergence_steps: Count = 5
    """... in this many steps in a row, or at the last step, which a short training reaches before.
    A loss or gradient that is not finite ends it at once."""
    noise_scale_every: Annotated[int, Field(ge=0)] = 10
    """Optimizer steps from one measurement of the gradient noise scale to the next, more in a long
    training, which makes 2,000 at most; 0 for none. Changes the weights by no more than
    rounding, where nothing has dropout: what that draws depends on the micro-batches, and a
    measurement cuts the batch in two."""
    tokens_per_micro_batch: Count | None = None
    """Tokens at a time on the device; when empty, as suits the device. Never changes the batch; of
    a model or an adapter with dropout it changes what that draws."""
    save_every_minutes: Annotated[float, Field(gt=0)] = 10.0
    """Minutes between the checkpoints that a killed training goes on from; more where writing one
    would take above a twentieth of the time."""
    save_every_steps: Count | None = None
    """Optimizer steps between checkpoints, instead of minutes."""

    @model_validator(mode="after")
    def _one_of_each(self):
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        for names in INSTEAD:
            both = [name for name in names if name in given]
            if len(both) > 1:
                raise ValueError(
                    f"give {' or '.join(both)}, not {'both' if len(both) == 2 else 'all'}; an arm "
                    f"takes the stage's back with `{both[0]}: null`, --set with {both[0]}=null"
                )
        if self.adam_beta2 is None and self.adam_beta2_half_life_tokens is None:
            raise ValueError("give adam_beta2 or adam_beta2_half_life_tokens")
        return self

    @property
    def without_dropout(self) -> bool:
        """Whether the model's own dropout is off while training."""
        return True

    @property
    def unread(self) -> dict[str, str]:
        """Fields that nothing reads beside the other settings -> why."""
        unread = {}
        if self.schedule != "warmup_stable_decay":
            unread["decay_ratio"] = f"schedule is {self.schedule}, not warmup_stable_decay"
        if self.save_every_steps is not None:
            unread["save_every_minutes"] = "save_every_steps is given"
        return unread

    def heldout_examples(self, rows: int) -> int:
        """Examples to hold out of `rows` rows."""
        return min(HELDOUT_EXAMPLES, rows // 10) if self.heldout is None else self.heldout

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text that a model reads at once."""
        return self.max_length

    @property
    def data_settings(self) -> dict[str, Any]:
        """What decides, beside the rows, how they become examples; a file by its content."""
        kind, given = type(self), self.model_dump(include=set(self.DATA_FIELDS))
        return {name: given[name] if name == "heldout" else identified(kind, name, given[name])
                for name in self.DATA_FIELDS if name in given}  # fmt: skip

    @property
    def sources(self) -> tuple[DataSpec, ...]:
        """The data sets that are mixed, often one."""
        return self.data if isinstance(self.data, tuple) else (self.data,)

    def with_sources(self, change: Callable[[DataSpec], DataSpec]) -> Self:
        """The spec with each of its data sets as `change` has it."""
        changed = tuple(map(change, self.sources))
        data = changed if isinstance(self.data, tuple) else changed[0]
        return self.model_copy(update={"data": data})

    @property
    def examples_per_row(self) -> int:
        """Examples that are made of each row of the data."""
        return 1

    @property
    def rows_per_step(self) -> int:
        return self.batch_size // self.examples_per_row

    def optimizer_steps(self, rows: int) -> int:
        """Optimizer steps of training on `rows` rows; an epoch's last batch may be smaller. A
        budget in tokens needs the rows' lengths (trainers/steps/schedule.py)."""
        if self.steps is not None:
            return self.steps
        steps_per_epoch = max(math.ceil(rows / self.rows_per_step), 1)
        epochs = 1.0 if self.epochs is None else self.epochs
        return max(math.ceil(epochs * steps_per_epoch), 1)

    def examples_after(self, steps: int, rows: int) -> int:
        """Examples seen after `steps` steps; each takes `batch_size`, an epoch's last what is
        left."""
        epochs, rest = divmod(steps, max(math.ceil(rows / self.rows_per_step), 1))
        return (epochs * rows + rest * self.rows_per_step) * self.examples_per_row

    def warmup(self, steps: int) -> int:
        """Warmup steps of a run of `steps` optimizer steps: ceil(warmup_ratio * steps), as
        Trainer has it."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return math.ceil((self.warmup_ratio or 0.0) * steps)


class SftSpec(TrainingSpec):
    """Supervised fine-tuning with a fixed effective batch."""

    HAS_LANES = True
    DATA_FIELDS = ("heldout", "max_length", "loss_on", "chat_template")

    kind: Literal["sft"]
    loss: Literal["token_mean", "example_mean"] = "token_mean"
    """Mean over the batch's loss tokens (Tulu 3's sum up to scale), or over its examples' means."""
    loss_on: Literal["assistant", "all"] = "assistant"
    """Tokens that count in the loss: those that the assistant writes, its end token too, or all
    of them."""
    disable_dropout: Annotated[bool, Field(exclude_if=lambda off: not off)] = False
    """Train without the model's own dropout, as DPO, reward models and RLVR always do. With it, as
    TRL's SFT has it, a step depends on the micro-batches: on `tokens_per_micro_batch`,
    `noise_scale_every` and the device, beside the seed. Most models have none (GPT-2 and OPT
    have)."""

    @property
    def without_dropout(self) -> bool:
        return self.disable_dropout
