"""Kind of stage -> the function that trains it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from trainers.evaluate.scores import Evaluation
from trainers.models import adapters, load
from trainers.specs.conditions import DEFAULTS, Conditions
from trainers.specs.kinds import StageSpec
from trainers.specs.lanes import NotLaned
from trainers.specs.result import StageResult


def train(
    spec: StageSpec,
    loaded: load.Loaded,
    cache: Path,
    start: str,
    folder: Path,
    conditions: Conditions = DEFAULTS,
) -> StageResult:
    """Train `loaded.model` in place as `spec.kind` says, or a model made from it.

    `cache` holds prepared data, and what depends on the weights that training starts from; `start`
    names these.

    Raises:
        DataUnavailable: the data cannot be had.
        OutOfTime: the monotonic clock has passed the deadline.
    """
    prepared = _prepared(spec, loaded, cache)
    match spec.kind:
        case "sft":
            with _no_wandb():
                from trainers.stages import sft
            return sft.train(spec, loaded, prepared, folder, conditions)
        case "dpo":
            with _no_wandb():
                from trainers.ops import reference
                from trainers.stages import dpo
            adapters.make_base(loaded.model, spec.adapter)
            start = adapters.name_of_base(start, spec.adapter)
            kept = reference.reference(start, lambda: loaded, prepared, cache, spec.dtype)
            return dpo.train(spec, loaded, prepared, kept, folder, conditions)
        case "reward":
            with _no_wandb():
                from trainers.stages import reward_model
            return reward_model.train(spec, loaded, prepared, folder, conditions)
        case "rlvr":
            with _no_wandb():
                from trainers.stages import rlvr
            return rlvr.train(spec, loaded, prepared, folder, conditions)


def train_lanes(
    specs: Sequence[StageSpec],
    loaded: load.Loaded,
    cache: Path,
    start: str,
    folders: Sequence[Path],
    deadline: float,
    memory_kills: int,
    save: Callable[[int, load.Loaded, StageResult], None],
) -> list[StageResult | Exception]:
    """As `train`, for several specs with one `lane_key` in one pass, from the same weights; see
    trainers/lanes/__init__.py.

    Raises:
        NotLaned: they cannot share a pass here; nothing has been written.
        DataUnavailable, OutOfTime: as `train`.
    """
    prepared = _prepared(specs[0], loaded, cache)
    match specs[0].kind:
        case "sft":
            with _no_wandb():
                from trainers.lanes import sft
            return sft.train(
                cast(Any, specs), loaded, prepared, folders, deadline, memory_kills, save
            )
        case "dpo":
            with _no_wandb():
                from trainers.lanes import pairs
                from trainers.ops import reference
            kept = reference.reference(start, lambda: loaded, prepared, cache, specs[0].dtype)
            return pairs.train_dpo(
                cast(Any, specs), loaded, prepared, kept, folders, deadline, memory_kills, save
            )
        case "reward":
            with _no_wandb():
                from trainers.lanes import pairs
            return pairs.train_reward(
                cast(Any, specs), loaded, prepared, folders, deadline, memory_kills, save
            )
        case kind:
            raise NotLaned(f"there are no lanes for {kind}")


def _prepared(spec: StageSpec, loaded: load.Loaded, cache: Path) -> Any:
    """The stage's data, for a model that speaks in the stage's chat template from now on."""
    from trainers.data import prepare
    from trainers.models import chat_template

    if spec.chat_template is not None:
        chat_template.use_template(loaded.tokenizer, spec.chat_template)
        chat_template.stop_at_turn_ends(loaded.model, loaded.tokenizer)
    return prepare.prepare(spec, loaded.tokenizer, cache)


def pass_over_pairs(
    spec: StageSpec, loaded: load.Loaded, cache: Path, start: str, folder: Path, deadline: float
) -> dict[str, Any]:
    """Leave in `cache` what the trials of a DPO stage need of the model that they start from, as it
    is under their adapter; see `trainers/stages/reference_pass.py`."""
    assert spec.kind == "dpo", "other stages need no reference"
    with _no_wandb():
        from trainers.stages import reference_pass
    prepared = _prepared(spec, loaded, cache)
    start = adapters.name_of_base(start, spec.adapter)
    return reference_pass.run(spec, loaded, prepared, cache, start, folder, deadline)


def score_heldout(
    spec: StageSpec,
    slice_of: StageSpec,
    loaded: load.Loaded,
    cache: Path,
    start: str,
    open_start: Callable[[], load.Loaded],
    dtype: str,
) -> Evaluation:
    """Score a model on the held-out slice of the data of `slice_of`, a cell of the same stage (one
    slice serves all of them) or of a stage that starts from the model's.

    `spec` is the model's own; `start` names the weights that it was trained from and `open_start`
    loads them, as they were under its adapter.

    Raises:
        ValueError: nothing is held out.
    """
    from trainers.data import prepare

    prepared = prepare.prepare(slice_of, loaded.tokenizer, cache)
    match slice_of.kind:
        case "sft":
            from trainers.evaluate import heldout_loss

            return heldout_loss.score(loaded, prepared.heldout, dtype)
        case "dpo":
            from trainers.evaluate import heldout_preference
            from trainers.ops import reference

            assert spec.kind == "dpo"
            start = adapters.name_of_base(start, spec.adapter)
            kept = reference.reference(start, open_start, prepared, cache, spec.dtype)
            return heldout_preference.score(spec, loaded, prepared.heldout, kept.heldout, dtype)
        case "reward":
            with _no_wandb():
                from trainers.evaluate import pair_accuracy

            return pair_accuracy.heldout(loaded, prepared.heldout, dtype)
        case "rlvr":
            with _no_wandb():
                from trainers.evaluate import heldout_reward

            return heldout_reward.score(
                loaded, prepared.heldout, slice_of.max_new_tokens, dtype, slice_of.reward
            )


@contextmanager
def _no_wandb() -> Iterator[None]:
    """TRL imports wandb wherever it is installed; here it is nobody's business."""
    modules = cast(dict[str, Any], sys.modules)
    hide = "wandb" not in modules
    if hide:
        modules["wandb"] = None
    try:
        yield
    finally:
        if hide:
            del modules["wandb"]
