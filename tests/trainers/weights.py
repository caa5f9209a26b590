"""Weights as one vector, how far two lie apart, and training in two processes."""

import os
import socket
from collections.abc import Callable
from typing import Any

import torch

EXACT = 1e-4
"""Largest distance of two updates that only rounding sets apart."""


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().cpu() for parameter in model.parameters()])


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to the length of what is expected."""
    return float((found - expected).norm() / expected.norm())


def in_two_processes(work: Callable[..., None], *arguments: Any) -> None:
    """`work(rank, *arguments)` in each of two processes that train together."""
    from torch import multiprocessing

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_join, (port, work, arguments), nprocs=2)  # pyright: ignore


def _join(rank: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    work(rank, *arguments)
