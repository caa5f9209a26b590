"""The log-probabilities of preference pairs under the model that DPO starts from, computed once."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from datasets import concatenate_datasets
from filelock import FileLock

from trainers import files
from trainers.data.prepare import Prepared
from trainers.models import load
from trainers.ops.likelihood import pair_log_probabilities

FOLDER = "reference"
"""In the cache of prepared data."""


class Reference(NamedTuple):
    """Sums of the log-probabilities of the answers' tokens, float32, (pairs, 2): chosen and
    rejected, in the order of the prepared data."""

    train: np.ndarray
    heldout: np.ndarray
    computed: int
    """Pairs that had to be computed now; 0 where they were kept."""
    file: Path = Path()
    """Where they are kept."""


class Unfinished(Protocol):
    """Keeps what is computed, so that a start that was killed costs little."""

    def known(self) -> np.ndarray | None:
        """Values of the first pairs."""
        ...

    def keep(self, values: np.ndarray) -> None:
        """Told of all values so far."""
        ...


def reference(
    start: str,
    open_model: Callable[[], load.Loaded],
    data: Prepared,
    cache: Path,
    dtype: str,
    unfinished: Unfinished | None = None,
) -> Reference:
    """Under the model that training starts from: computed once for each `start` and data, however
    many trials ask, and kept in `cache`."""
    bfloat16 = load.bfloat16(dtype)
    path = cache / FOLDER / f"{files.short_hash(start, data.key, bfloat16)}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        computed = 0
        if not path.exists():
            loaded = open_model()
            pairs = concatenate_datasets([data.train, data.heldout])
            known = None if unfinished is None else unfinished.known()
            keep = (lambda values: None) if unfinished is None else unfinished.keep
            values = pair_log_probabilities(loaded, pairs, bfloat16, known, keep)
            computed = len(values) - (0 if known is None else len(known))
            train, heldout = np.split(values, [len(data.train)])
            with files.replacing(path) as part:
                np.savez(part, train=train, heldout=heldout)
        with np.load(path) as kept:
            return Reference(kept["train"], kept["heldout"], computed, path)
