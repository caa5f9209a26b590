"""Other nodes on which a trial has processes: what is asked of whoever reaches them.

Nothing here knows how a node is reached. In a sweep it is by the Ray cluster that the trial runs on
(`sweep/execution/backends/ray_nodes.py`).
"""

import socket
from collections.abc import Callable
from typing import Any, Protocol

import psutil


class NodeLost(Exception):
    """Another node of the trial, or the process that stands for it, is gone."""

    def __init__(self, message: str, node: str = ""):
        super().__init__(message)
        self.node = node
        """Its id."""


class Reply(Protocol):
    def done(self) -> bool:
        """Whether `result` returns, or raises, at once."""
        ...

    def result(self) -> Any:
        """
        Raises:
            NodeLost: there will be none.
            Exception: as the work raised it.
        """
        ...


class Node(Protocol):
    """A process on another node, for one piece of a trial's work. Processes that it starts end when
    it does."""

    @property
    def name(self) -> str:
        """Its address."""
        ...

    @property
    def id(self) -> str: ...

    def ask(self, work: Callable[..., Any], *arguments: Any) -> Reply:
        """Call `work(*arguments)` there, after what it was asked before."""
        ...


def interface_towards(address: str) -> str | None:
    """The network interface by which this machine reaches an address, such as `eth0`: gloo takes by
    itself that of the host's name, which may be the loopback."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing
        own = probe.getsockname()[0]
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == own for one in addresses):
            return name
    return None
