"""What one stage of training or evaluation is asked to do, and what it hands back.

The fields are the keys of a stage in a grid file; their docstrings are the documentation of that
file.
"""

import math
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

NOT_IN_IDENTITY = frozenset({"per_device_batch_size"})
"""Fields that decide memory and speed but not weights; `identity` leaves them out."""


class Strict(BaseModel):
    """Frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class DataSpec(Strict):
    name: Annotated[str, Field(min_length=1)]
    """`world:sft`, `world:pretrain`, a local .jsonl or .parquet file, or a data set id on the
    hub."""
    split: str = "train"
    """Split of a hub data set; local files and the miniature world have only `train`."""
    revision: str | None = None
    """Commit, tag or branch of a hub data set; pin it to keep a run from changing under you."""
    examples: Count | None = None
    """Seeded random subset of this many examples, the same for every trial; all of them when
    empty."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class SftSpec(Strict):
    """Supervised fine-tuning with a fixed effective batch."""

    kind: Literal["sft"]
    data: DataSpec
    learning_rate: Positive
    """Peak learning rate of AdamW."""
    batch_size: Count
    """Examples per optimizer step, whatever the hardware."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Decides the order of the examples."""
    epochs: Positive | None = None
    """Passes over the data; 1 where neither epochs nor steps is given."""
    steps: Count | None = None
    """Optimizer steps, instead of epochs."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: Share = 0.0
    """Share of the optimizer steps in which the rate rises from zero."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Optimizer steps of warmup, instead of a ratio."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Clip the gradient's norm to this; 0 does not clip (Tulu 3's choice)."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    max_length: Annotated[int, Field(ge=2)] = 2048
    """Longest example in tokens; what lies beyond is cut off."""
    loss_on: Literal["assistant", "all"] = "assistant"
    """Tokens that count in the loss: those that the assistant writes, its end token too, or all
    of them."""
    heldout: Annotated[int, Field(ge=0)] = 200
    """Examples kept out of training, the same for every trial; their loss is the benchmark
    `heldout_loss`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward and backward pass; `auto` is bfloat16 where the GPU has it.
    Weights are float32."""
    divergence_factor: Annotated[float, Field(gt=1)] = 3.0
    """The trial ends as diverged once the smoothed loss exceeds its first value this many times."""
    per_device_batch_size: Count = 8
    """Examples at a time on the device; the rest of the batch is accumulated. Never changes the
    batch."""

    @model_validator(mode="after")
    def _one_of_each(self):
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        if self.warmup_steps is not None and "warmup_ratio" in self.model_fields_set:
            raise ValueError("give warmup_ratio or warmup_steps, not both")
        return self

    def optimizer_steps(self, examples: int) -> int:
        """Optimizer steps of training on `examples` examples; an epoch's last batch may be
        smaller."""
        if self.steps is not None:
            return self.steps
        steps_per_epoch = max(math.ceil(examples / self.batch_size), 1)
        epochs = 1.0 if self.epochs is None else self.epochs
        return max(math.ceil(epochs * steps_per_epoch), 1)

    def examples_after(self, steps: int, examples: int) -> int:
        """Examples seen after `steps` steps; each takes `batch_size`, an epoch's last what is
        left."""
        epochs, rest = divmod(steps, max(math.ceil(examples / self.batch_size), 1))
        return epochs * examples + rest * self.batch_size

    def warmup(self, steps: int) -> int:
        """Warmup steps of a run of `steps` optimizer steps: ceil(warmup_ratio * steps), as
        Trainer has it."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return math.ceil(self.warmup_ratio * steps)


class EvaluateSpec(Strict):
    """How every model of the sweep is scored."""

    benchmarks: Annotated[list[str], Field(min_length=1)]
    """Names from trainers/benchmarks.py, or paths of lm-eval task files in YAML."""
    limit: Count | None = None
    """Items per task, a seeded random subset that is the same for every model; all of them when
    empty."""
    batch_size: Count = 16
    """Sequences at a time; part of the setting, since padding moves scores in the last digits."""
    chat_template: bool | None = None
    """Wrap prompts in the chat template; when empty, as the benchmark's own entry says."""
    data_dir: str | None = None
    """Folder with the benchmarks' items as local files, in place of the hub."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


class Score(NamedTuple):
    """One metric of one benchmark. `n` counts items; `stderr` is the standard error of `value`
    over items."""

    metric: str
    value: float
    stderr: float | None
    n: int
    primary: bool
    higher_is_better: bool


class OutOfTime(Exception):
    """A trial has passed its time limit; trying again under the same limit has no point."""


class StageResult(NamedTuple):
    """How a training ended. `figures` go into train.json as they are."""

    status: Literal["ok", "diverged"]
    reason: str
    figures: dict[str, Any]


def identity(spec: Strict) -> dict[str, Any]:
    """The part of a spec that decides the weights, as plain data for hashing."""
    return spec.model_dump(mode="json", exclude=set(NOT_IN_IDENTITY))
