"""Columns by the names that people and tools give them -> what each is.

Every column is an axis, a fact of the schema, a score, a setting, or unused for a stated reason.
Names come from W&B exports, the HF Trainer, TRL, Ray Tune, Optuna, DeepSpeed, Lightning, lm-eval.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.tables.external.names.directions import higher_is_better

SPELLINGS: dict[str, tuple[str, ...]] = {
    "learning_rate": (
        *("lr", "peak_lr", "max_lr", "peak_learning_rate", "max_learning_rate", "base_lr"),
        *("init_lr", "initial_lr", "initial_learning_rate", "learningrate", "adam_lr", "lr_max"),
    ),
    "batch_size": (
        *("effective_batch_size", "total_train_batch_size", "global_batch_size"),
        *("total_batch_size", "global_train_batch_size", "effective_bs", "global_bs", "gbs"),
        *("batch_size", "bs", "bsz", "batchsize", "batch", "train_batch_size", "train_bs"),
    ),
    "per_device_batch_size": (
        *("per_device_train_batch_size", "micro_batch_size", "train_micro_batch_size_per_gpu"),
        *("micro_batch_size_per_gpu", "per_gpu_train_batch_size", "device_train_batch_size"),
        *("device_batch_size", "batch_size_per_device", "batch_size_per_gpu", "per_device_bs"),
        *("train_batch_size_per_device", "microbatch_size", "mbs"),
    ),
    "accumulation": (
        *("gradient_accumulation_steps", "grad_accum", "grad_acc", "grad_accum_steps"),
        *("grad_acc_steps", "accumulation_steps", "accumulate_grad_batches", "gas"),
        *("gradient_accumulation", "gradient_accumulation_step", "update_freq"),
    ),
    "devices": (
        *("num_gpus", "n_gpu", "n_gpus", "ngpus", "gpus", "world_size", "num_devices"),
        *("num_processes", "gpu_count", "_n_gpu", "data_parallel_size", "dp_size", "num_replicas"),
    ),
    "seed": ("random_seed", "train_seed", "data_seed", "repeat", "repetition", "replicate"),
    "model": (
        *("model_name", "model_name_or_path", "base_model", "model_id", "pretrained_model"),
        *("_name_or_path", "model_path", "pretrained_model_name_or_path"),
    ),
    "benchmark": ("task", "tasks", "task_name"),
    "metric": ("metric_name",),
    "value": ("score", "result"),
    "stderr": ("std_err", "standard_error"),
    "n": ("n_samples",),
    "status": ("state",),
    "diverged": ("has_diverged", "is_diverged"),
    "reason": (),
    "stage": (),
    "arm": (),
    "epochs": ("num_train_epochs", "num_epochs", "n_epochs", "max_epochs"),
    "steps": ("max_steps", "num_steps", "train_steps", "total_steps"),
    "warmup_steps": ("num_warmup_steps",),
    "adam_beta2": ("beta2", "adam_b2"),
    "model_parameters": ("n_params", "num_params", "num_parameters"),
    "tokens": (),
    "examples": (),
    "optimizer": ("optim", "optimiser", "optimizer_name", "optimizer_type"),
    "adapter": ("peft", "peft_type", "peft_method", "finetuning_type"),
    "higher_is_better": (),
    "primary": (),
}
"""What a table may have -> other names of it, the surest first."""

EFFECTIVE = SPELLINGS["batch_size"][:8]
"""Names that can mean nothing but examples per optimizer step."""

PER_DEVICE_SOMETIMES = ("batch_size", "bs", "bsz", "batchsize", "batch", "train_batch_size")
PER_DEVICE_SOMETIMES += ("train_bs",)

SETTINGS_ROLES = ("epochs", "steps", "warmup_steps", "adam_beta2", "model_parameters")
SETTINGS_ROLES += ("optimizer", "adapter", "tokens", "examples")
CONFIG = ("config", "params", "hparams", "hyperparameters", "args", "training_args", "parameters")
CONFIG += ("train_loop_config", "training_arguments", "cfg", "user_attrs")
LOGGED = ("train", "eval", "test", "val", "valid", "validation", "system", "perf", "time")
LOGGED += ("timers", "charts", "scores")

PROGRESS = re.compile(
    r"(^|.*[/_. ])(global_step|_step|step|epoch|iteration|iter|training_iteration|checkpoint|ckpt"
    r"|iterations_since_restore|tokens_seen)",
    re.IGNORECASE,
)
"""How far a run has come: several of these in a run are its history."""

AMOUNT = re.compile(
    r"(.*[/.])?((num|n|total|seen|consumed|trained|train|input|count)[_ ])*(tokens|examples|samples"
    r"|sequences|episodes)([_ ](seen|total|consumed|trained))*",
    re.IGNORECASE,
)
"""How much a run has trained on: as progress, or set before it."""

SAME_AMOUNT = 1.2
"""Amounts of one cell within this factor are one, as padding, packing and the seed change it."""

RUN_NAMES = ("id", "run_id", "trial_id", "run", "run_name", "name", "exp_name", "experiment_name")

_AT = r"(.*[/_. ])?"
UNUSED: tuple[tuple[str, str], ...] = (
    (r"(lr|learning_rate)_(to_)?(bs|batch|batch_size)_ratio", "computed from the axes"),
    (_AT + r"(lr(_\d+|_adamw?.*|_sgd)?|learning_rate)", "the scheduler's rate, not the peak"),
    (
        r".*(runtime|duration|seconds|latency|elapsed|throughput)(_.*)?|.*per_(second|sec|s|step)"
        rf"|{_AT}(time|secs|minutes|hours|it/s|speed|eta|wall_?clock|tok/s)(_.*)?",
        "time or throughput",
    ),
    (
        rf"{_AT}(timestamp|date|datetime)(_.*)?|(created|started|finished|updated|end|start)(_at)?",
        "a date",
    ),
    (
        rf"{_AT}(num|n|total|seen|count)_(tokens|samples|examples|input_tokens.*|flos|rows)(_seen)?"
        r"|.*(flos|flops)|.*(tokens|samples|episodes|steps)_(seen|total|this_iter)|.*_?count",
        "a counter",
    ),
    (
        rf"{_AT}(pid|hostname|host|node_ip|node|gpu.*|cuda.*|mem|memory|vram|cpu|power)(_.*)?"
        r"|system/.*|.*utilization|timers/.*",
        "the machine",
    ),
    (
        r".*(?<!max_)grad(ient)?_?norm.*|.*(logps?|logits)[/_](chosen|rejected).*"
        r"|.*rewards[/_](chosen|rejected|margins).*|.*(?<!cross_)(?<!x)entropy|.*clip_ratio.*"
        r"|.*completions?[/_](mean|min|max)_.*length.*|.*loss_scale|.*_(std|stdev|var|variance)"
        rf"|.*frac_reward_zero_std|{_AT}((old_)?approx_?|policy_|reverse_|mean_)?kl(_?div(ergence)?)?"
        r"(_(avg|mean))?",
        "a figure of the training, no score",
    ),
    (r".*seed.*", "a seed"),
    (r".*__(min|max)", "the range that a W&B panel draws"),
    (
        r"(unnamed:_?\d+|index|number|(run|exp|experiment|trial)?_?name|run|tags?|notes?|comment"
        rf"|user|sweep|key|parent|experiment_tag|done|should_checkpoint|wandb.*|git.*|commit"
        rf"|{_AT}(id|uuid|url|path|logdir|log_dir|output_dir)|)",
        "a name of the run",
    ),
)
"""Names of what is no score and no setting, and why; the first that fits counts."""

SETTING_WORDS = re.compile(
    r"(^|.*[/_. ])(weight_decay|wd|warmup(_.*)?|dropout|epochs|optimi[sz]er|schedule(r)?"
    r"|lr_scheduler(_type)?|max_(seq_)?len(gth)?|seq_?len(gth)?|beta\d?|alpha|gamma|epsilon|momentum"
    r"|rank|lora_.*|data(set)?|datasets|mix(ture)?|filter|variant|template|max_grad_norm|precision"
    r"|project|group|job_type|size|arch(itecture)?|temperature|.*_(coef|coefficient|weight|scale"
    r"|type|smoothing|threshold|ratio|decay|fn)|shots?|num_fewshot|n-shot|version|split|experts"
    r"|top_k|num_experts|moe_.*|tokenizer|loss_type|branch|config)",
    re.IGNORECASE,
)
"""Names of what is set before a run."""


def plain(column: str) -> str:
    """A column's name without the prefix of a config, in lower case with underscores."""
    name = re.sub(r"^params_|^user_attrs_", "", str(column).strip().lower())
    parts = [part for part in re.split(r"[/.]", name) if part]
    while len(parts) > 1 and parts[0] in CONFIG:
        parts = parts[1:]
    return re.sub(r"[\s\-/]+", "_", "/".join(parts))


def in_config(column: str) -> bool:
    """Whether a prefix says that a column was set, not measured."""
    name = str(column).lower()
    first = re.split(r"[/.]", name)[0]
    return name.startswith("params_") or (first in CONFIG[:-1] and first != name)


def roles(frame: pd.DataFrame, given: Mapping[str, str], source: str) -> dict[str, str]:
    """Role -> column of the table. `given` maps roles to columns by hand ("" for none).

    A name is taken from the whole of a column's name before its last part (optimizer/lr).

    Raises:
        ResultsError: a role or a column that is given does not exist.
    """
    mapping: dict[str, str] = {}
    for role, candidates in spelled(frame, given).items():
        if role == "seed":  # of several seeds, one that varies
            candidates.sort(key=lambda column: frame[column].nunique() < 2)
        if candidates and candidates[0] not in mapping.values():
            mapping[role] = candidates[0]
    for role, column in given.items():
        if role not in SPELLINGS:
            raise ResultsError(
                f"{source}: --columns {role}={column}: no column of that name is asked for; use "
                f"one of {', '.join(SPELLINGS)}"
            )
        if column and column not in frame and not _constant(column):
            raise ResultsError(
                f"{source}: --columns {role}={column}: no column {column}; the table has: "
                f"{', '.join(map(str, frame.columns))}"
            )
        if column:
            mapping[role] = column
    return mapping


def spelled(frame: pd.DataFrame, given: Mapping[str, str]) -> dict[str, list[str]]:
    """Every role that is not `given` -> the columns of its names that hold anything, the surest
    first."""
    names: dict[str, str] = {}
    columns = [str(name) for name, cells in frame.items() if filled(cells).any()]
    for column in columns:
        names.setdefault(plain(column), column)
    last_parts: dict[str, str] = {}
    for column in columns:
        parts = re.split(r"[/.]", column.lower())
        if len(parts) > 1 and parts[0] not in LOGGED:
            last_parts.setdefault(re.sub(r"[\s\-]+", "_", parts[-1]), column)
    return {
        role: [table[name] for table in (names, last_parts)
               for name in (*(() if role in spellings else (role,)), *spellings)
               if name in table and table[name] not in given.values()]
        for role, spellings in SPELLINGS.items()
        if role not in given
    }  # fmt: skip


def filled(cells: Any) -> Any:
    """Where a column holds anything."""
    return cells.notna() & (cells != "")


def _constant(text: str) -> bool:
    return bool(re.fullmatch(r"[\d.]+(e-?\d+)?", text))


def unused_reason(column: str) -> str | None:
    """Why a column of this name is neither a score nor a setting; None where it may be."""
    name = plain(column)
    return next((reason for pattern, reason in UNUSED if re.fullmatch(pattern, name)), None)


def is_progress(column: str) -> bool:
    """Whether a column counts steps, epochs or tokens; val_loss_epoch is a loss."""
    name = str(column)
    counts = PROGRESS.fullmatch(name) or AMOUNT.fullmatch(name)
    return bool(counts) and higher_is_better(name) is None


def is_amount(column: str) -> bool:
    """Whether a column counts tokens or examples, which runs of one setting hardly agree in."""
    return bool(AMOUNT.fullmatch(str(column)))


def is_setting(column: str, values: Any, cells: pd.Series) -> bool:
    """Whether a column was set before the runs: by its name, or because most of its values occur
    in more than one cell (what is measured hardly repeats)."""
    if in_config(column) or SETTING_WORDS.fullmatch(plain(column)):
        return True
    if unused_reason(column) is not None or "seed" in plain(column):
        return False
    spread: Any = cells.groupby(values.to_numpy()).transform("nunique")
    return bool((spread > 1).mean() >= 0.5)


def run_names(frame: pd.DataFrame) -> Iterable[str]:
    """Columns that name the run of a row."""
    names = {plain(column): str(column) for column in frame.columns}
    return [names[name] for name in RUN_NAMES if name in names]


def name_of_each_row(frame: pd.DataFrame, progress: str) -> str | None:
    """A column that names every row as another run; None where there is none. A row number, and a
    name in which the step of the column `progress` stands, name no run."""
    steps = frame[progress].astype("str")
    for column in run_names(frame):
        names = frame[column].astype("str")
        numbered = names.str.fullmatch(r"\d+").all()
        counted = all(step in name for step, name in zip(steps, names, strict=True))
        if filled(frame[column]).all() and names.is_unique and not (numbered or counted):
            return column
    return None
