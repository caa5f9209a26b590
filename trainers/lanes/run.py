"""A pass from the specs of its lanes to their records."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel
from transformers.trainer_utils import align_special_tokens

from trainers.data.prepare import Prepared
from trainers.lanes import modules, proof, room
from trainers.lanes.lane import Lane
from trainers.lanes.stack import Stack, twin
from trainers.lanes.steps import Kind, Pass, Setting
from trainers.models import adapters, dropout, load
from trainers.ops import memory, packed_attention
from trainers.ops.batching import Order
from trainers.ops.memory import out_of_memory
from trainers.specs.adapter import Adapter
from trainers.specs.lanes import NotLaned, TooMany
from trainers.specs.result import StageResult
from trainers.specs.training import TrainingSpec
from trainers.steps import checkpoints, noise_scale, optimizers, schedule
from trainers.steps.batch_loader import BatchLoader
from trainers.steps.records import CHECKPOINTS, figures
from trainers.steps.token_budget import TokenBudget
from trainers.training import compiled

Save = Callable[[int, load.Loaded, StageResult], None]

Kinds = Callable[[PreTrainedModel, int, bool], Kind]
"""Of a model, the number of lanes, and whether examples are packed."""


def train(
    kind: Kinds,
    specs: Sequence[TrainingSpec],
    loaded: load.Loaded,
    data: Prepared,
    rows: Dataset,
    folders: Sequence[Path],
    deadline: float,
    memory_kills: int,
    save: Save,
    extra: Mapping[str, Any] = MappingProxyType({}),
) -> list[StageResult | Exception]:
    """Train a lane for each of `specs`, which have one `lane_key`, from `loaded.model` on `rows`.

    What a lane's folder and its figures have is what `training.loop.train` says; `lanes` is how
    many there were at the start, and `extra` what all lanes' figures have besides. See
    `trainers/lanes/__init__.py` for `save` and the results.

    Raises:
        NotLaned: they cannot be trained together here; nothing has been written.
        OutOfTime: the monotonic clock has passed `deadline`.
        Stopped: the attempt was asked to stop, and the lanes have their checkpoints.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise NotLaned("several processes train one model")
    if own_dropout := dropout.in_config(loaded.model.config.to_dict()):
        raise NotLaned(f"the model has dropout of its own ({dropout.words(own_dropout)})")
    newest = [checkpoints.newest(folder / CHECKPOINTS) for folder in folders]
    first, sharers = _start(newest)
    spec, count, parameters = specs[0], len(specs), loaded.model.num_parameters()
    if spec.adapter is not None:
        loaded = loaded._replace(model=_adapted(loaded.model, spec.adapter, spec.seed))
    model, bfloat16 = loaded.model, load.bfloat16(spec.dtype)
    align_special_tokens(model, loaded.tokenizer)  # as transformers' Trainer does
    fits = room.lanes_that_fit(model, spec.optimizer, bfloat16, count)
    if fits < count:
        raise TooMany(fits, count)
    attention: Any = model.config._attn_implementation
    with ExitStack() as opened:
        packed = opened.enter_context(packed_attention.used(model, bfloat16))
        stack, laned, models = _proved(model, count, packed, bfloat16)
        lanes = _lanes(specs, data, folders, newest, stack, models)
        course = lanes[0].course
        budget = spec.tokens_per_micro_batch or room.tokens_per_micro_batch(
            model, spec.optimizer, packed, bfloat16, count
        )
        micro_batches = course.steps * math.ceil(course.tokens_per_step * sharers / budget)
        before = lanes[0].records.compiled
        against = compiled.worthwhile(model.device.type, packed, bfloat16, micro_batches, before)
        compilation = opened.enter_context(
            compiled.layers(laned, against, run=partial(proof.run, stack))
        )
        for lane in lanes:
            lane.records.compiled = compilation.used
        facts = {
            "lanes": count,
            "model_parameters": parameters,
            "trained_parameters": model.num_parameters(only_trainable=True),
            "packed": packed,
            **compilation.facts(against),
            "dtype": "bfloat16" if bfloat16 else "float32",
            "device": str(load.device()),
            **extra,
        }
        tokens = TokenBudget(budget >> memory_kills, sharers)

        def end(lane: Lane, reason: str) -> None:
            refused = newest[lane.number].refused
            lane.end = StageResult(
                "diverged" if reason else "ok",
                reason,
                figures(lane.records.progress, lane.spec, lane.course, data)
                | facts
                | {"tokens_per_micro_batch": tokens.tokens}
                | ({"checkpoints_refused": list(refused)} if refused else {}),
            )
            lane.model.set_attn_implementation(attention)
            trained = loaded._replace(model=lane.model)
            lane.alone(partial(save, lane.number, trained, lane.end))

        measured_every = noise_scale.every(spec.noise_scale_every, course.steps)
        made = kind(model, sharers, packed)
        order = Order(len(data.train), spec.rows_per_step, spec.seed)
        Pass(
            Setting(course.steps, spec.seed, measured_every, packed, bfloat16, deadline),
            made,
            lanes,
            stack,
            laned,
            partial(modules.laned, model),
            BatchLoader(rows, made.collate, order, first, course.steps),
            tokens,
            end,
        ).run(first)
    ends = {lane.number: lane.end for lane in lanes}
    return [end for _, end in sorted(ends.items()) if end is not None]


def _lanes(
    specs: Sequence[TrainingSpec],
    data: Prepared,
    folders: Sequence[Path],
    newest: Sequence[checkpoints.Found],
    stack: Stack,
    models: Sequence[PreTrainedModel],
) -> list[Lane]:
    """By the row. Those that diverge have high rates, and behind the last live lane nothing is
    computed, so the highest rate is the last."""
    lanes = []
    order = sorted(range(len(specs)), key=lambda number: specs[number].learning_rate)
    for row, number in enumerate(order):
        spec = specs[number]
        course = schedule.course(spec, data.lengths)
        lane = Lane(number, row, spec, course, folders[number], stack, models[row])
        checkpoint = newest[number].checkpoint
        if checkpoint is not None:
            lane.records.go_on_from(checkpoint)
        lanes.append(lane)
    return lanes


def _adapted(model: PreTrainedModel, adapter: Adapter, seed: int) -> PreTrainedModel:
    """A model on the same weights, frozen under a new adapter."""
    model = twin(model, {})
    adapters.attach(model, adapter, seed)
    return model


def _start(newest: Sequence[checkpoints.Found]) -> tuple[int, int]:
    """The step that all lanes go on from, and how many share the token budget: as many as at the
    first start, if some have ended meanwhile, so that micro-batches are cut as they were.

    Raises:
        NotLaned: they are not at one step.
    """
    states = [its.checkpoint.state if its.checkpoint else {} for its in newest]
    steps = {its.checkpoint.step if its.checkpoint else 0 for its in newest}
    if len(steps) > 1:
        raise NotLaned(f"the newest whole checkpoints are of steps {sorted(steps)}")
    return steps.pop(), max(len(newest), *(state.get("lanes", 0) for state in states))


def _proved(
    model: PreTrainedModel, lanes: int, packed: bool, bfloat16: bool
) -> tuple[Stack, PreTrainedModel, list[PreTrainedModel]]:
    """Lanes with the weights of the model, a model of all of them, and each as a model; proven to
    compute the same.

    Raises:
        NotLaned: they do not.
        TooMany: memory ran out.
    """
    try:
        stack = Stack(model, lanes, optimizers.decaying(model), bfloat16)
        models = [stack.model(model, lane) for lane in range(lanes)]
        laned = modules.laned(model, stack)
        proof.check(laned, models, stack, packed, bfloat16)
        return stack, laned, models
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        short = TooMany(max(lanes // 2, 1), lanes)
    memory.release()  # not in the handler: the error holds on to the tensors
    raise short
