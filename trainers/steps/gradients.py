"""The gradients of all parameters together: their norm, and their sum over ranks."""

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

BUCKET = 2**26
"""Numbers in one all_reduce: 256 MB in float32, which keeps any network busy."""


def norm(parameters: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    """L2 norm over all gradients, a scalar on the device; of sharded ones over all their parts."""
    total = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    return total.full_tensor() if isinstance(total, DTensor) else total


def norm_over_ranks(parameters: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    """The norm of the sum over ranks of the gradients, which stay as they are."""
    norms = []
    for some in _buckets(parameters):
        flat = torch.cat([_gradient(parameter).flatten() for parameter in some])
        dist.all_reduce(flat)
        norms.append(torch.linalg.vector_norm(flat))
    return torch.linalg.vector_norm(torch.stack(norms))


def total_over_ranks(numbers: torch.Tensor) -> torch.Tensor:
    """The sums over ranks."""
    numbers = numbers.clone()
    dist.all_reduce(numbers)
    return numbers


@torch.no_grad()
def sum_over_ranks(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Replace the gradients by their sums over ranks.

    One all_reduce for up to `BUCKET` numbers instead of one for each parameter.
    """
    for some in _buckets(parameters):
        gradients = [_gradient(parameter) for parameter in some]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for parameter, gradient, part in zip(some, gradients, parts, strict=True):
            parameter.grad = part.view_as(gradient)


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    """Zeros where this rank had no example."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _buckets(parameters: Sequence[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    bucket: list[torch.nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and size + parameter.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket
