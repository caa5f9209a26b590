"""Settings of the whole process that trains or scores; a worker that is used again keeps them."""

import logging
import os

from trainers import devices


def go_offline() -> None:
    """All that is read is on this machine now; to be called before the libraries are imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # even a local file can lose a minute to hub retries
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def prepare(threads: int, gpus: float = 0.0) -> None:
    """Torch's threads, the share of a GPU's memory, and libraries that say nothing but errors."""
    import datasets
    import torch
    import transformers

    torch.set_num_threads(threads)
    devices.limit_memory(gpus)
    transformers.logging.set_verbosity_error()
    datasets.logging.set_verbosity_error()  # it warns of each use of its cache
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
