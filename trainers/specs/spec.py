"""What one stage of training or evaluation is asked to do, and what it hands back.

The fields are the keys of a stage in a grid file; their docstrings are the documentation of that
file.
"""

import functools
import hashlib
import math
import os
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

NOT_IN_IDENTITY = frozenset(
    {"tokens_per_micro_batch", "noise_scale_every", "save_every_minutes", "save_every_steps"}
)
"""Fields that decide memory and speed but not weights; `identity` leaves them out."""


HELDOUT_EXAMPLES = 200
"""Examples that are held out where the grid file names no number, at most a tenth of the data."""

INSTEAD = (
    ("epochs", "steps", "tokens"),
    ("warmup_ratio", "warmup_steps", "warmup_tokens"),
    ("adam_beta2", "adam_beta2_half_life_tokens"),
)
"""Fields of which one may be given; null takes back what a stage gave, for an arm."""


class Strict(BaseModel):
    """Frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def expanded(path: str) -> str:
    """A local path with `~` and `${VARIABLE}` replaced; any other name as it is."""
    return os.path.expanduser(os.path.expandvars(path)) if path[:1] in ("~", "$") else path


class Model(Strict):
    name: str
    """`tiny`, a local folder, or a model id on the hub."""
    revision: str | None = None
    """Commit, tag or branch of a hub model."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        value = {"name": value} if isinstance(value, str) else value
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            return value | {"name": expanded(value["name"])}
        return value


def _absent(value: Any) -> bool:
    return value is None


class Columns(Strict):
    """Which column of the data has what: for names that the reader does not know by itself."""

    messages: str | None = None
    """The turns of a conversation."""
    prompt: str | None = None
    """What is asked: a text, or the turns up to the answer."""
    completion: str | None = None
    """The answer to `prompt`."""
    text: str | None = None
    """Plain text, trained on as it stands."""
    chosen: str | None = None
    rejected: str | None = None
    """The better and the worse answer of a pair."""
    system: str | None = None
    """The system turn."""
    tools: str | None = None
    """JSON schemas of the functions that the assistant may call."""
    answer: str | None = None
    """What RLVR holds an answer against."""
    dataset: str | None = None
    """Names the grader of an RLVR row."""


class DataSpec(Strict):
    name: Annotated[str, Field(min_length=1)]
    """`world:sft`, `world:pretrain`, a local file (.jsonl, .json, .csv, .tsv, .parquet, also
    as .gz), a folder of such files, or a data set id on the hub. `~` and `${VARIABLE}` are
    replaced."""
    config: Annotated[str | None, Field(exclude_if=_absent)] = None
    """Configuration of a hub data set, or of a snapshot of one in a local folder."""
    split: str = "train"
    """Split of a hub data set, or of a local folder; a local file and the miniature world have only
    `train`."""
    columns: Annotated[Columns | None, Field(exclude_if=_absent)] = None
    """What the columns hold, where their names do not tell: `{prompt: ask, completion: reply}`."""
    max_unreadable: Annotated[Share, Field(exclude_if=lambda share: share == 0.01)] = 0.01
    """Largest share of rows that may be left out because they cannot be read; they are counted and
    shown. Where more cannot be read, nothing is trained."""
    revision: str | None = None
    """Commit, tag or branch of a hub data set; pin it to keep a run from changing under you."""
    examples: Count | None = None
    """Seeded random subset of this many examples, the same for every trial; all of them when
    empty."""
    weight: Annotated[Positive, Field(exclude_if=lambda weight: weight == 1)] = 1.0
    """Passes over these rows in one epoch: 0.5 takes a random half of them, 2 takes each twice (a
    share, as in open-instruct's `dataset_mixer`; its counts are `examples` here)."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        value = {"name": value} if isinstance(value, str) else value
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            return value | {"name": expanded(value["name"])}
        return value

    @property
    def place(self) -> tuple[str, str | None, str, str | None]:
        """What is read, whatever part of it is taken."""
        return self.name, self.config, self.split, self.revision

    @property
    def label(self) -> str:
        """Which part of what is read, as the grid names it:
        `NAME(CONFIG)@REVISION:SPLIT[:EXAMPLES]`."""
        config = f"({self.config})" if self.config else ""
        at = f"@{self.revision}" if self.revision else ""
        part = f"[:{self.examples}]" if self.examples else ""
        return f"{self.name}{config}{at}:{self.split}{part}"

    @property
    def cache_key(self) -> str:
        """Under which the commit that was fetched is noted."""
        return f"data:{self.name}@{self.revision or 'main'}"


def _mixture(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _each_once(mixture: tuple[DataSpec, ...]) -> tuple[DataSpec, ...]:
    if not mixture:
        raise ValueError("an empty list; name at least one data set")
    places = [one.place for one in mixture]
    twice = next((one for one in mixture if places.count(one.place) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice.name!r} stands twice in the mixture; give it a weight instead")
    return mixture


Mixture = Annotated[
    tuple[DataSpec, ...],
    BeforeValidator(_mixture),
    AfterValidator(_each_once),
]

ONE, MANY = "one", "mixture"
"""Names of the two forms in the paths of pydantic's errors."""

Data = Annotated[
    Annotated[DataSpec, Tag(ONE)] | Annotated[Mixture, Tag(MANY)],
    Discriminator(lambda value: MANY if isinstance(value, list | tuple) else ONE),
]


class HeldoutScore(NamedTuple):
    """The benchmark that a stage's held-out slice is."""

    benchmark: str
    metric: str
    higher_is_better: bool
    before: bool
    """Whether the model that the stage starts from can be scored on it too."""


class TrainingSpec(Strict):
    """What every kind of training has. The kinds are listed in trainers/specs/kinds.py."""

    FORM: ClassVar[Literal["texts", "pairs", "prompts"]] = "texts"
    """What a row of the data is: one text, a chosen and a rejected one, or a prompt that the model
    is to answer itself (trainers/data/prepare.py)."""
    UNIT: ClassVar[str] = "examples"
    """What `batch_size` counts, for the plan."""
    DATA_FIELDS: ClassVar[tuple[str, ...]] = ("heldout", "max_length", "chat_template")
    """Fields that decide how rows become examples, beside those that say which rows."""
    LEAVES: ClassVar[Literal["policy", "reward"]] = "policy"
    """What the stage leaves: a model that writes, or one that judges. Decides which benchmarks it
    is scored on, and what may start from it."""
    HELDOUT: ClassVar[HeldoutScore | None] = HeldoutScore("heldout_loss", "loss", False, True)
    """What is measured on the held-out slice; None for nothing."""

    kind: str
    data: Data
    """A data set, or a list of them to be mixed, each with its weight. An example is of one data
    set; their order is mixed."""
    data_seed: Annotated[int, Field(ge=0, lt=2**32, exclude_if=lambda seed: seed == 0)] = 0
    """Decides which rows `examples`, `weight` and `heldout` take and how they are mixed, for all
    cells of the stage alike."""
    learning_rate: Positive
    """Peak learning rate of AdamW."""
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
    schedule: Literal["linear", "cosine", "constant", "warmup_stable_decay"] = "linear"
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
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of AdamW; biases and norms do not decay."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Clip the gradient's norm to this; 0 does not clip (Tulu 3's choice)."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] | None = 0.999
    adam_beta2_half_life_tokens: Positive | None = None
    """Tokens after which AdamW's mean of squares has half forgotten, instead of adam_beta2, which
    then is 2^(-tokens per step / half-life) and means the same at every batch size (Marek et al.
    2025, arXiv 2507.07101)."""
    adam_epsilon: Annotated[Positive, Field(exclude_if=lambda epsilon: epsilon == 1e-8)] = 1e-8
    max_length: Annotated[int, Field(ge=2)] = 2048
    """Longest example in tokens; what lies beyond is cut off."""
    heldout: Annotated[int, Field(ge=0)] | None = None
    """Examples kept out of training, the same for every trial; their loss is the benchmark
    `heldout_loss`. When empty, 200, and at most a tenth of the data."""
    chat_template: Annotated[str | None, Field(exclude_if=_absent)] = None
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
    """... in this many steps in a row. A loss or gradient that is not finite ends it at once."""
    noise_scale_every: Annotated[int, Field(ge=0)] = 10
    """Optimizer steps from one measurement of the gradient noise scale to the next; 0 for none.
    Changes the weights by no more than rounding."""
    tokens_per_micro_batch: Count | None = None
    """Tokens at a time on the device; when empty, as suits the device. Never changes the batch."""
    save_every_minutes: Annotated[float, Field(gt=0)] = 10.0
    """Minutes between the checkpoints that a killed training goes on from."""
    save_every_steps: Count | None = None
    """Optimizer steps between checkpoints, instead of minutes."""

    @model_validator(mode="after")
    def _one_of_each(self):
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        for names in INSTEAD:
            both = [name for name in names if name in given]
            if len(both) > 1:
                raise ValueError(
                    f"give {' or '.join(both)}, not {'both' if len(both) == 2 else 'all'}"
                )
        if self.adam_beta2 is None and self.adam_beta2_half_life_tokens is None:
            raise ValueError("give adam_beta2 or adam_beta2_half_life_tokens")
        return self

    def heldout_examples(self, rows: int) -> int:
        """Examples to hold out of `rows` rows."""
        return min(HELDOUT_EXAMPLES, rows // 10) if self.heldout is None else self.heldout

    @property
    def data_settings(self) -> dict[str, Any]:
        """What decides, beside the rows, how they become examples; a file by its content."""
        given = self.model_dump(include=set(self.DATA_FIELDS))
        return {name: given[name] if name == "heldout" else _identified(name, given[name])
                for name in self.DATA_FIELDS if name in given}  # fmt: skip

    @property
    def sources(self) -> tuple[DataSpec, ...]:
        """The data sets that are mixed, often one."""
        return self.data if isinstance(self.data, tuple) else (self.data,)

    @property
    def examples_per_row(self) -> int:
        """Examples that are made of each row of the data."""
        return 1

    @property
    def rows_per_step(self) -> int:
        return self.batch_size // self.examples_per_row

    def optimizer_steps(self, rows: int) -> int:
        """Optimizer steps of training on `rows` rows; an epoch's last batch may be smaller. A
        budget in tokens needs the rows' lengths (trainers/training/schedule.py)."""
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

    DATA_FIELDS = ("heldout", "max_length", "loss_on", "chat_template")

    kind: Literal["sft"]
    loss: Literal["token_mean", "example_mean"] = "token_mean"
    """Mean over the batch's loss tokens (Tulu 3's sum up to scale), or over its examples' means."""
    loss_on: Literal["assistant", "all"] = "assistant"
    """Tokens that count in the loss: those that the assistant writes, its end token too, or all
    of them."""


OLD_ITEMS_PER_BATCH = "batch_size"
"""Earlier name of `evaluate.items_per_batch`, still read, and written where it is hashed."""


class EvaluateSpec(Strict):
    """How every model of the sweep is scored."""

    benchmarks: list[str]
    """Names from trainers/evaluate/registry.py, names of lm-eval's tasks or groups, or paths of
    task files in YAML. `rewardbench` and `ufb` score reward models alone, all others the models
    that write. Empty to have the scores on held-out data alone, which every stage has."""
    preset: Literal["paper", "lm_eval"] = "paper"
    """`paper`: chat template, shots and answer length as trainers/evaluate/registry.py has them.
    `lm_eval`: no chat template, the rest as lm-eval's task has it."""
    limit: Count | None = None
    """Items per task, a seeded random subset that is the same for every model; all of them when
    empty."""
    items_per_batch: Annotated[Count, Field(serialization_alias=OLD_ITEMS_PER_BATCH)] = 16
    """Sequences at a time; part of the setting, since padding moves scores in the last digits."""
    chat_template: bool | None = None
    """Wrap prompts in the chat template, or do not, whatever the preset says."""
    data_dir: str | None = None
    """Folder with the benchmarks' items as local files, in place of the hub."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    backend: Literal["transformers", "vllm"] = "transformers"
    """What runs the model: this process, or lm-eval's vLLM class, which takes a whole GPU (`python
    -m pip install 'lm-eval[vllm]'` first)."""

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, value: Any) -> Any:
        if not isinstance(value, dict) or OLD_ITEMS_PER_BATCH not in value:
            return value
        if "items_per_batch" in value:
            raise ValueError(f"{OLD_ITEMS_PER_BATCH} is the old name of items_per_batch; give one")
        rest = {key: given for key, given in value.items() if key != OLD_ITEMS_PER_BATCH}
        return rest | {"items_per_batch": value[OLD_ITEMS_PER_BATCH]}


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
    model: Any = None
    """What was trained, where it is another object than the model that the stage was given."""


def identity(spec: TrainingSpec) -> dict[str, Any]:
    """The part of a spec that decides the weights, as plain data for hashing.

    Raises:
        OSError: a file that the spec names cannot be read.
    """
    facts = spec.model_dump(mode="json", exclude=set(NOT_IN_IDENTITY))
    return {name: _identified(name, value) for name, value in facts.items()}


def _identified(name: str, value: Any) -> Any:
    """The value of a field for hashing: of a file its content. An empty `heldout` keeps the key
    that it had as 200."""
    if name == "heldout" and value is None:
        return HELDOUT_EXAMPLES
    if name == "chat_template" and value is not None:
        return content(value)
    if name == "reward" and value is not None and function_file(value) is not None:
        path, _, function = value.rpartition(":")
        return f"{content(path)}:{function}"
    return value


def function_file(reward: str) -> str | None:
    """The file of a `path.py:function`, or None of another name."""
    path, _, function = reward.rpartition(":")
    return path if path.endswith(".py") and function else None


@functools.cache
def _content(path: str, _changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def content(path: str) -> str:
    """Hash of a file's content.

    Raises:
        OSError: the file cannot be read.
    """
    return _content(path, os.stat(path).st_mtime_ns)
