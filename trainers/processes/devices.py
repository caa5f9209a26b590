"""What a process may use of this machine: GPUs, their memory, and CPU cores.

Who gets which device, and how much of its memory, follows from what is visible and what a trial
asks for: plain functions, which load no torch. `restrict` and `limit_memory` put it into effect.
"""

import ctypes
import math
import os
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager

VISIBLE = "CUDA_VISIBLE_DEVICES"
NO_DEVICE = ("", "-1", "NoDevFiles")
"""Entries of CUDA_VISIBLE_DEVICES that end the list: CUDA does not look at what follows."""

CONTEXT = 1 << 30
"""Bytes that a process holds on a GPU beside torch's allocator: the CUDA context, the kernels and
cuBLAS's own memory. 0.5 to 0.7 GB on Hopper."""

CONTEXT_SHARE = 0.2
"""Of a trial's memory at most: a small GPU has a small context."""

ROUNDING = 1e-9
"""1 // 0.2 is 4 in floating point."""


def visible(environ: MutableMapping[str, str] = os.environ) -> tuple[str, ...]:
    """Names of the GPUs that a process with this environment sees, as CUDA_VISIBLE_DEVICES has
    them."""
    names = environ.get(VISIBLE)
    if names is None:
        return tuple(map(str, range(installed())))
    chosen: list[str] = []
    for name in names.split(","):
        if name.strip() in NO_DEVICE:
            break
        chosen.append(name.strip())
    return tuple(chosen)


def installed() -> int:
    """NVIDIA GPUs of this machine, asked of the driver without initialising CUDA."""
    count = ctypes.c_uint(0)
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if nvml.nvmlInit_v2() == 0 and nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0:
            return count.value
    except (OSError, AttributeError):  # no driver
        pass
    return 0


def per_trial(gpus: float) -> int:
    """GPUs that a trial sees: none, one for a share of one, or all that it asks for."""
    return math.ceil(gpus - ROUNDING)


def on_gpus(devices: int, gpus_per_trial: float) -> int:
    """Trials that `devices` GPUs of one node hold at once; a share never spans two GPUs."""
    if gpus_per_trial >= 1:
        return int(devices / gpus_per_trial + ROUNDING)
    return devices * int(1 / gpus_per_trial + ROUNDING)


def trials_at_once(cpus: float, devices: int, cpus_per_trial: float, gpus_per_trial: float) -> int:
    """Trials that one node with these CPUs and GPUs holds at once."""
    fits = int(cpus / cpus_per_trial + ROUNDING)
    return min(fits, on_gpus(devices, gpus_per_trial)) if gpus_per_trial else fits


def assigned(devices: Sequence[str], gpus: float, place: int = 0) -> tuple[str, ...]:
    """The GPUs of the trial that has the given place, from 0, among those that run at once here.

    Fewer than it asks for where there are not as many: a node without GPUs runs it on its CPUs.
    """
    if gpus == 0:
        return ()
    first = place // int(1 / gpus + ROUNDING) if gpus < 1 else place * int(gpus)
    return tuple(devices[first : first + per_trial(gpus)])


def restrict(
    gpus: float, place: int = 0, environ: MutableMapping[str, str] = os.environ
) -> tuple[str, ...]:
    """Leave visible what a trial asks for; before CUDA is initialised, which looks only once.

    Ray leaves CUDA_VISIBLE_DEVICES alone for a trial without a GPU, and TRL refuses to train in one
    process that sees several.
    """
    devices = assigned(visible(environ), gpus, place)
    environ[VISIBLE] = ",".join(devices)
    return devices


@contextmanager
def seeing(gpus: float) -> Iterator[None]:
    """`restrict` for the time of the block."""
    before = os.environ.get(VISIBLE)
    restrict(gpus)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VISIBLE, None)
        else:
            os.environ[VISIBLE] = before


def rank_environment(
    rank: int, place: int, ranks: int, here: int, address: str, port: int
) -> dict[str, str]:
    """What torchrun sets for one of `ranks` processes, `here` of them on this node, that meet at an
    address. Those of a node see all of its devices; each has the device whose number is its place,
    from 0, among them."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(place),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(here),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }


def memory_fraction(gpus: float, total: int) -> float:
    """Share of a GPU's `total` bytes that torch's allocator may take in a process of a trial: its
    own, without what the process holds beside the allocator."""
    own = min(gpus, 1.0) * total
    return (own - min(CONTEXT, CONTEXT_SHARE * own)) / total


def limit_memory(gpus: float) -> None:
    """Have torch refuse to allocate more than this process's share of its current GPU, so that
    trials on one GPU do not take each other's; nothing where no GPU is."""
    import torch

    if gpus and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(memory_fraction(gpus, total))


def name() -> str | None:
    """Of the GPU that this process computes on; None on CPUs."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def cores() -> int:
    """CPU cores that this process may use: those of its affinity, within the quota of its cgroup
    (version 1 or 2), as a container or a batch system sets it."""
    from joblib import cpu_count

    return cpu_count()
