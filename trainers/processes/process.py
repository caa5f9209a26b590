"""Settings of the whole process that trains or scores; a reused worker keeps them."""

import ctypes
import functools
import gc
import logging
import os
import signal
import sys
from pathlib import Path

from trainers.processes import devices

PR_SET_PDEATHSIG = 1
"""Linux, prctl(2): the signal that a process gets when its parent ends."""


def go_offline() -> None:
    """Read local files alone from now on. Call it before the libraries are imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # even a local file can lose a minute to hub retries
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def prepare(threads: int, gpus: float = 0.0) -> None:
    """Set torch's threads and kernels, the share of a GPU's memory, and logging of errors alone."""
    import datasets
    import torch
    import transformers

    torch.set_num_threads(threads)
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(threads))  # else 32 processes
    devices.limit_memory(gpus)
    # On Hopper and Blackwell, SDPA tries cuDNN first. cuDNN builds a plan for each new shape, some
    # 35 ms and never freed, and the lengths of texts and answers are nearly always new.
    torch.backends.cuda.enable_cudnn_sdp(False)
    transformers.logging.set_verbosity_error()
    datasets.logging.set_verbosity_error()  # it warns of each use of its cache
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # of a kernel for 4-bit weights


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends.

    torch asks for SIGINT, which Python handles only when the process comes back from NCCL: ranks of
    a worker that was killed would hold their GPUs until the timeout.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before this
        os._exit(1)


def memory_kills() -> int | None:
    """Processes that this machine's kernel has killed for want of memory since it was started."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:  # not Linux
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


@functools.cache
def leave_out_libraries() -> None:
    """Once a process, after its first trial: what is alive are libraries, never garbage, through
    which each later collection would look for 0.2 s."""
    gc.freeze()
