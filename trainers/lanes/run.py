"""A pass from the specs of its lanes to their records."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from transformers import PreTrainedModel

from trainers.data.prepare import Prepared
from trainers.lanes import modules, proof, room
from trainers.lanes.lane import Lane
from trainers.lanes.stack import Stack
from trainers.lanes.steps import Kind, Pass, Setting
from trainers.models import load
from trainers.ops import memory, packed_attention
from trainers.ops.batching import Order
from trainers.ops.memory import out_of_memory
from trainers.specs.lanes import NotLaned, TooMany
from trainers.specs.result import StageResult
from trainers.specs.training import TrainingSpec
from trainers.training import checkpoints, optimizers, schedule
from trainers.training.batch_loader import BatchLoader
from trainers.training.records import CHECKPOINTS, figures
from trainers.training.token_budget import TokenBudget

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
) -> list[StageResult | Exception]:
    """Train a lane for each of `specs`, which have one `lane_key`, from `loaded.model` on `rows`.

    What a lane's folder and its figures have is what `training.loop.train` says; `lanes` is how
    many there were at the start. See `trainers/lanes/__init__.py` for `save` and the results.

    Raises:
        NotLaned: they cannot be trained together here; nothing has been written.
        OutOfTime: the monotonic clock has passed `deadline`.
        Stopped: the attempt was asked to stop, and the lanes have their checkpoints.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise NotLaned("several processes train one model")
    newest = [checkpoints.newest(folder / CHECKPOINTS) for folder in folders]
    firsts = {found.checkpoint.step if found.checkpoint else 0 for found in newest}
    if len(firsts) > 1:
        raise NotLaned(f"the newest whole checkpoints are of steps {sorted(firsts)}")
    (first,) = firsts
    courses = [schedule.course(spec, data.lengths) for spec in specs]
    spec, model, count = specs[0], loaded.model, len(specs)
    attention: Any = model.config._attn_implementation
    bfloat16 = load.bfloat16(spec.dtype)
    fits = room.lanes_that_fit(model, spec.optimizer, bfloat16, count)
    if fits < count:
        raise TooMany(fits, count)
    with packed_attention.used(model, bfloat16) as packed:
        proved = _proved(model, count, packed, bfloat16)
        budget = spec.tokens_per_micro_batch or room.tokens_per_micro_batch(
            model, spec.optimizer, packed, bfloat16, count
        )
        order = Order(len(data.train), spec.rows_per_step, spec.seed)
        lanes = [
            Lane(number, spec, course, folder, proved.stack, single)
            for number, (spec, course, folder, single) in enumerate(
                zip(specs, courses, folders, proved.models, strict=True)
            )
        ]
        for lane, found in zip(lanes, newest, strict=True):
            if found.checkpoint is not None:
                lane.records.go_on_from(found.checkpoint)
        made = kind(model, count, packed)
        steps = courses[0].steps
        tokens = TokenBudget(budget >> memory_kills, count)
        facts = {
            "lanes": count,
            "model_parameters": model.num_parameters(),
            "trained_parameters": model.num_parameters(only_trainable=True),
            "packed": packed,
            "compiled": False,
            "dtype": "bfloat16" if bfloat16 else "float32",
            "device": str(load.device()),
        }

        def end(lane: Lane, reason: str) -> None:
            refused = newest[lane.number].refused
            said = facts | {"tokens_per_micro_batch": tokens.tokens}
            said |= {"checkpoints_refused": list(refused)} if refused else {}
            of_course = figures(lane.records.progress, lane.spec, lane.course, data)
            result = StageResult("diverged" if reason else "ok", reason, of_course | said)
            lane.end = result
            lane.model.set_attn_implementation(attention)
            lane.alone(lambda: save(lane.number, loaded._replace(model=lane.model), result))

        Pass(
            Setting(steps, spec.seed, spec.noise_scale_every, packed, bfloat16, deadline),
            made,
            lanes,
            proved.stack,
            proved.laned,
            BatchLoader(rows, made.collate, order, first, steps),
            tokens,
            end,
        ).run(first)
    return [lane.end for lane in lanes if lane.end is not None]


class _Proved(NamedTuple):
    stack: Stack
    laned: PreTrainedModel
    models: list[PreTrainedModel]
    """Of each lane, on the same weights."""


def _proved(model: PreTrainedModel, lanes: int, packed: bool, bfloat16: bool) -> _Proved:
    """Lanes with the weights of the model, which compute what models alone do.

    Raises:
        NotLaned: they do not.
        TooMany: memory ran out.
    """
    try:
        stack = Stack(model, lanes, optimizers.decaying(model), bfloat16)
        laned = modules.laned(model, stack)
        models = [stack.model(model, lane) for lane in range(lanes)]
        proof.check(laned, models, stack, packed, bfloat16)
        return _Proved(stack, laned, models)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        short = TooMany(max(lanes // 2, 1), lanes)
    memory.release()  # not in the handler: the error holds on to the tensors
    raise short
