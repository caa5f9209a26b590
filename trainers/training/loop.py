"""One training from its spec to its records, whatever its kind.

What the kinds have in common beside TRL's trainers: the course (schedule.py), the effective batch
exactly as the spec says (exact_batches.py), no padding (packed_attention.py, chunked_loss.py),
divergence as a result and a record of every step (callbacks.py), checkpoints (checkpoints.py).
"""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainingArguments,
)

from trainers.data.prepare import Prepared
from trainers.models import adapters, dropout, load
from trainers.ops import memory, packed_attention
from trainers.ops.batching import Order
from trainers.ops.forward_pass import installed
from trainers.specs.conditions import Conditions
from trainers.specs.result import StageResult
from trainers.specs.training import TrainingSpec
from trainers.steps import checkpoints, distributed, noise_scale, optimizers, schedule, sharding
from trainers.steps.records import CHECKPOINTS, figures
from trainers.steps.step import Diverged
from trainers.training import compat_accelerate, compiled
from trainers.training.callbacks import Monitor
from trainers.training.exact_batches import ExactBatches, Settings


class Kind(NamedTuple):
    """What a kind of training brings."""

    engine: type[ExactBatches]
    """One of TRL's trainers with exact batches."""
    arguments: Callable[..., TrainingArguments]
    """Its configuration, given what all kinds share."""
    forward: Callable[[PreTrainedModel], Callable[..., Any]] | None
    """Of a model: what stands in for its forward pass and returns the loss; None where the engine
    calls the model as TRL does, with padded rows."""
    loss: str
    """`Settings.loss`."""
    options: Mapping[str, Any] = MappingProxyType({})
    """Further arguments of the engine."""


def train(
    kind: Kind,
    spec: TrainingSpec,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Prepared,
    rows: Dataset,
    folder: Path,
    conditions: Conditions,
) -> StageResult:
    """Train `model`, or a new adapter on it, in place on `rows`: those of `data.train`, as the
    engine reads them. Write a line per optimizer step to `folder`/metrics.jsonl.

    Goes on from the newest whole checkpoint in `folder`/checkpoints; who has kept the weights
    removes it.

    `figures` has steps, examples, tokens (of the examples taken), loss_tokens, epochs,
    warmup_steps, adam_beta2 (None where the optimizer has none), learning_rate_sum, train_seconds,
    model_parameters (without an adapter), trained_parameters; first, final, best and smoothed loss;
    the kind's facts, smoothed; the noise scale with its 95 % interval, the number of measurements
    and their share of the time; the token budget, and those that were too large; dropout, where
    the model has its own and trains with it.

    Raises:
        OutOfTime: the monotonic clock has passed the deadline.
    """
    parameters = adapters.parameters(model)
    own_dropout = {} if spec.without_dropout else dropout.in_config(model.config.to_dict())
    if spec.adapter is not None:
        adapters.attach(model, spec.adapter, spec.seed)
    newest = checkpoints.newest(folder / CHECKPOINTS)
    course = schedule.course(spec, data.lengths)
    bfloat16 = load.bfloat16(spec.dtype)
    monitor = Monitor(spec, folder, conditions.deadline)
    if newest.checkpoint is not None:
        monitor.go_on_from(newest.checkpoint)
    reason = against = ""
    packed, budget = False, 0
    compilation = compiled.Compiled(False, "")
    trainer: ExactBatches | None = None
    shared = conditions.sharding != "none"
    outline = sharding.outline(model) if shared else None
    try:
        arguments = kind.arguments(**_arguments(spec, course, folder))
        trainer = _trainer(kind, spec, arguments, model, tokenizer, rows, monitor)
        what = "the step of the checkpoint to go on from"
        distributed.check_same(monitor.progress.steps, what, arguments.device)
        if shared:
            sharding.shard(model, arguments.device, conditions.sharding, bfloat16)
        with ExitStack() as stack:
            if spec.without_dropout:
                stack.enter_context(dropout.off(model))
            packed = kind.forward is not None and stack.enter_context(
                packed_attention.used(model, bfloat16, float32=not (shared and bfloat16))
            )
            stack.enter_context(monitor.open())
            budget = _budget(spec, model, packed, bfloat16, conditions)
            micro_batches = course.steps * math.ceil(course.tokens_per_step / budget)
            against = compiled.worthwhile(
                model.device.type, packed, bfloat16, micro_batches, monitor.compiled
            )
            if shared:
                against = "the weights are sharded"
            elif adapters.in_4_bits(spec.adapter):
                against = "the frozen weights are in 4 bits"
            # before layers are compiled: it may call the model in other shapes than training has
            with torch.autocast(arguments.device.type, torch.bfloat16, enabled=shared and bfloat16):
                forward = kind.forward and kind.forward(model)
            if shared:
                sharding.let_go(model)
            compilation = stack.enter_context(compiled.layers(model, against))
            monitor.compiled = compilation.used
            trainer.set_batches(
                Settings(
                    order=Order(len(data.train), spec.rows_per_step, spec.seed),
                    optimizer=partial(optimizers.optimizer, spec, course.adam_beta2),
                    factor=partial(schedule.factor, spec.schedule, course),
                    steps=course.steps,
                    first_step=monitor.progress.steps,
                    budget=budget >> conditions.memory_kills,
                    packed=packed,
                    loss=kind.loss,
                    max_grad_norm=spec.max_grad_norm,
                    noise_scale_every=noise_scale.every(spec.noise_scale_every, course.steps),
                    sharding=conditions.sharding,
                )
            )
            with installed(model, forward):
                trainer.train()
            budget = trainer.budget.tokens
    except Diverged as error:
        reason = str(error)
        assert trainer is not None
        budget = trainer.budget.tokens
    finally:
        vars(model).pop("disable_adapter", None)  # what TRL switches the adapter off by
        _release(trainer, monitor)
        compat_accelerate.forget_process_state()
        if torch.cuda.is_available():
            memory.release()
    facts = {
        "model_parameters": parameters,
        "trained_parameters": model.num_parameters(only_trainable=True),
        "packed": packed,
        **({"dropout": own_dropout} if own_dropout else {}),
        **compilation.facts(against),
        **({"sharding": conditions.sharding} if shared else {}),
        "tokens_per_micro_batch": budget,
        "dtype": "bfloat16" if bfloat16 else "float32",
        "device": str(load.device()),
        **({"checkpoints_refused": list(newest.refused)} if newest.refused else {}),
    }
    return StageResult(
        "diverged" if reason else "ok",
        reason,
        figures(monitor.progress, spec, course, data) | facts,
        None if reason or outline is None else sharding.fill(outline, model),
    )


def _budget(
    spec: TrainingSpec,
    model: PreTrainedModel,
    packed: bool,
    bfloat16: bool,
    conditions: Conditions,
) -> int:
    """Tokens of a micro-batch, before any earlier attempt is thought of."""
    if spec.tokens_per_micro_batch:
        return spec.tokens_per_micro_batch
    if conditions.sharding != "none":
        return sharding.tokens_per_micro_batch(model, spec, conditions.sharding, bfloat16)
    return memory.tokens_per_micro_batch(
        model, packed, bfloat16, optimizers.state_bytes(spec, model)
    )


def _trainer(
    kind: Kind,
    spec: TrainingSpec,
    arguments: TrainingArguments,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    monitor: Monitor,
) -> ExactBatches:
    monitor.engine = trainer = kind.engine(
        model=model,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=cast(Any, kind.engine.collate),  # TRL's would ask the rows for more
        callbacks=[monitor],
        **kind.options,
    )
    trainer.remove_callback(PrinterCallback)
    if spec.adapter is not None:
        adapters.set_dropout(model, spec.adapter.dropout)  # TRL takes it off with the model's own
    return trainer


def _release(trainer: ExactBatches | None, monitor: Monitor) -> None:
    """Free the optimizer's state and the gradients: the evaluation that follows in this process
    needs the memory, and trainer, callbacks and accelerator refer to each other in circles."""
    if trainer is None:
        return
    if trainer.optimizer is not None:
        cast(Any, trainer.optimizer).state.clear()
    for parameter in trainer.trained:
        parameter.grad = None
    vars(monitor).pop("engine", None)
    compat_accelerate.forget_prepared(trainer.accelerator)
    vars(trainer).clear()


def _arguments(spec: TrainingSpec, course: schedule.Course, folder: Path) -> dict[str, Any]:
    """What the engine leaves to TRL: precision and devices. All else is `Settings`."""
    return {
        "output_dir": str(folder / CHECKPOINTS),
        "per_device_train_batch_size": 1,  # an item of the data loader is a whole batch
        "max_steps": course.steps,
        "learning_rate": spec.learning_rate,
        "max_grad_norm": 0,  # clipped by the engine
        "seed": spec.seed,
        "bf16": load.bfloat16(spec.dtype),
        "use_cpu": load.device().type == "cpu",
        "ddp_timeout": distributed.TIMEOUT,
        "logging_strategy": "no",  # the monitor writes the records
        "logging_nan_inf_filter": False,  # hides them, and makes the host wait twice a step
        "save_strategy": "no",  # and the checkpoints
        "report_to": "none",
        "disable_tqdm": True,
    }
