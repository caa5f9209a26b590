"""A training whose processes share its weights, by torch's `fully_shard` (FSDP2; Zhao et al. 2023,
arXiv 2304.11277): each keeps a slice of every weight, of its gradient and of its optimizer's state.

`full`: the weights of a block (attention, or feed-forward) are gathered before it computes,
forwards and backwards, and let go after it. `optimizer`: they are gathered at the first micro-batch
of a step and stay whole until the last has gone backwards. Either way a gradient is summed over the
processes and cut as soon as a micro-batch has made it. torch's ZeroRedundancyOptimizer would divide
the optimizer's state alone, in whole tensors.

The numbers are those of whole weights to rounding: matrices are gathered in the dtype of their
products, all else (norms, embeddings, head) in float32. Gathering takes every process: all make the
same passes, and one that ends ends all.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from trainers.models import load, shapes
from trainers.ops import memory
from trainers.specs.conditions import Sharding
from trainers.specs.optimizer import STATE_BYTES
from trainers.specs.training import TrainingSpec
from trainers.steps import distributed


def shard(model: PreTrainedModel, device: torch.device, sharding: Sharding, bfloat16: bool) -> None:
    """Divide a model, in place, over all processes; its weights may lie on the CPU, and each is
    moved to this process's `device` for as long as it takes to cut it.

    Raises:
        ValueError: the model has no decoder layers known to transformers.
    """
    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(
            f"resources.sharding: {type(model).__name__} has no decoder layers known to "
            "transformers; use none"
        )
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    plain = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    products = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bfloat16 else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    divide = partial(fully_shard, mesh=mesh, reshard_after_forward=sharding == "full")
    for layer in layers:
        if _reads_own_weights(layer):
            divide(layer, mp_policy=plain)
        else:
            for block in _blocks(layer):
                divide(block, mp_policy=products)
    fully_shard(model, mesh=mesh, mp_policy=plain)
    for part in _parts(model):
        part.set_gradient_divide_factor(1.0)  # a sum: each token has its weight already
        part.set_force_sum_reduction_for_comms(True)  # gloo has no other
        part.set_reshard_after_backward(sharding == "full", recurse=False)


def _reads_own_weights(layer: torch.nn.Module) -> bool:
    """DoRA takes the lengths of rows from weights of modules that it does not call."""
    return any(getattr(part, "lora_magnitude_vector", None) for part in layer.modules())


def _blocks(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The largest parts whose weights are all factors of matrix products, which autocast casts."""
    owned = [(part, list(part.parameters(recurse=False))) for part in module.modules()]
    if not any(weights for _, weights in owned):
        return
    if all(
        isinstance(part, torch.nn.Linear) or all(weight.ndim > 1 for weight in weights)
        for part, weights in owned
    ):
        yield module
        return
    for child in module.children():
        yield from _blocks(child)


def _parts(model: PreTrainedModel) -> Iterator[FSDPModule]:
    return (part for part in model.modules() if isinstance(part, FSDPModule))


def let_go(model: PreTrainedModel) -> None:
    """Of weights that are whole: after a step under `optimizer`, and after passes without a
    gradient, which leave some."""
    for part in _parts(model):
        part.reshard()


@contextmanager
def gathered(model: PreTrainedModel, sharding: Sharding, passes: bool) -> Iterator[None]:
    """While open each process has all weights, and passes exchange nothing, so that each may make
    its own, without a gradient; `passes`: whether this one makes any. Every process has to open
    this."""
    blocks = [part for part in _parts(model) if part is not model]
    for part in blocks:
        part.set_reshard_after_forward(False, recurse=False)
    for part in _parts(model):
        part.unshard()
    try:
        yield
    finally:
        for part in blocks:
            part.set_reshard_after_forward(sharding == "full", recurse=False)
        if passes:  # to forget their order, which says what is gathered ahead on the way back
            cast(FSDPModule, model).reset_iter_state()
        let_go(model)


def tokens_per_micro_batch(
    model: PreTrainedModel, spec: TrainingSpec, sharding: Sharding, bfloat16: bool
) -> int:
    """As `memory.tokens_per_micro_batch`, the same on every process, with activations by the
    shapes of the model instead of weighed passes."""
    device = load.device()
    if device.type == "cpu":
        return memory.ON_CPU
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    own = trained / dist.get_world_size() * (4 + STATE_BYTES[spec.optimizer])
    writes = spec.FORM == "prompts"
    # DoRA's layers are gathered in float32: `_reads_own_weights`
    dora = spec.adapter is not None and spec.adapter.dora
    whole = division(model).whole(sharding, spec.adapter is None, bfloat16 and not dora, writes)
    shape = shapes.of_config(model.config.get_text_config().to_dict())
    per_token = shape.activations(spec.adapter) * (1 if bfloat16 else 2)
    return least(memory.fitting(device, own + whole, per_token))


def division(model: PreTrainedModel) -> shapes.Division:
    """Of a sharded model."""
    sizes = [
        sum(weight.numel() for weight in part.parameters())
        for part in model.modules()
        if isinstance(part, FSDPModule) and part is not model
    ]
    return shapes.Division(model.num_parameters() - sum(sizes), sum(sizes), max(sizes))


def least(number: int) -> int:
    """The smallest of what the processes give, in all of them."""
    return -_largest(-number)


def first_says(yes: bool) -> bool:
    """What the first process says, in all of them."""
    return bool(_largest(yes and distributed.is_first()))


def _largest(number: int) -> int:
    one = torch.tensor(number, device=load.device())
    dist.all_reduce(one, dist.ReduceOp.MAX)
    return int(one)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A sharded tensor on the CPU of the first process, put together from all; empty elsewhere; any
    other as it is. Every process has to call this in the same order."""
    if not isinstance(tensor, DTensor):
        return tensor
    together = tensor.full_tensor().detach()
    return together.cpu() if distributed.is_first() else torch.empty(0)


def like(tensor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor that every process has, on the device of `weight` and cut as it is; one of
    another shape is not cut."""
    copied = tensor.clone()
    if not isinstance(weight, DTensor) or tensor.shape != weight.shape:
        return copied.to(weight.device)
    return distribute_tensor(copied, weight.device_mesh, weight.placements, src_data_rank=None)


def outline(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model that is not sharded yet, without its weights; `fill` gives it some."""
    empty = {
        id(weight): torch.nn.Parameter(torch.empty_like(weight, device="meta"))
        for weight in model.parameters()
    }
    settings = (model.config, getattr(model, "generation_config", None))
    return copy.deepcopy(model, empty | {id(part): part for part in settings})


def fill(outline: PreTrainedModel, model: PreTrainedModel) -> PreTrainedModel:
    """The outline with the weights of the sharded model, on the CPU of the first process."""
    empty = dict(outline.named_parameters())
    weights = {
        id(empty[name]): torch.nn.Parameter(whole(weight), weight.requires_grad)
        for name, weight in model.named_parameters()
    }
    for part in outline.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            setattr(part, name, weights[id(weight)])
    return outline
