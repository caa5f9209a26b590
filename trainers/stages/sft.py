"""Supervised fine-tuning: a thin reading of TRL's SFTTrainer; the rest is in loop.py."""

from functools import partial
from pathlib import Path

from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from trainers.data.prepare import Prepared
from trainers.models import load
from trainers.ops.chunked_loss import Head
from trainers.specs.conditions import DEFAULTS, Conditions
from trainers.specs.result import StageResult
from trainers.specs.training import SftSpec
from trainers.training import loop
from trainers.training.exact_batches import ExactBatches


class Engine(ExactBatches, SFTTrainer):
    """TRL's trainer, stepping by exact batches."""


_arguments = partial(
    SFTConfig,
    activation_checkpointing=False,
    max_length=None,  # truncated while preparing
    dataset_kwargs={"skip_prepare_dataset": True},
)


def train(
    spec: SftSpec,
    loaded: load.Loaded,
    data: Prepared,
    folder: Path,
    conditions: Conditions = DEFAULTS,
) -> StageResult:
    """Train `loaded.model` in place; see `loop.train`. Losses are in nats per loss token.

    Raises:
        OutOfTime: the monotonic clock has passed the deadline.
    """
    kind = loop.Kind(Engine, _arguments, lambda model: Head(model).loss, spec.loss)
    rows = data.train.select_columns(["input_ids", "labels"])
    return loop.train(kind, spec, loaded.model, loaded.tokenizer, data, rows, folder, conditions)
