"""The log-probabilities of preference pairs under the model that DPO starts from, computed once."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

from trainers import files
from trainers.data.prepare import Prepared
from trainers.models import load
from trainers.ops.likelihood import pair_log_probabilities


class Reference(NamedTuple):
    """Sums of the log-probabilities of the answers' tokens, float32, (pairs, 2): chosen and
    rejected, in the order of the prepared data."""

    train: np.ndarray
    heldout: np.ndarray
    computed: int
    """Pairs that had to be computed now; 0 where they were kept."""


def reference(
    start: str, open_model: Callable[[], load.Loaded], data: Prepared, cache: Path, dtype: str
) -> Reference:
    """Under the model that training starts from: computed once for each `start` and data, however
    many trials ask, and kept in `cache`."""
    bfloat16 = load.bfloat16(dtype)
    path = cache / "reference" / f"{files.short_hash(start, data.key, bfloat16)}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        computed = 0
        if not path.exists():
            loaded = open_model()
            parts = (data.train, data.heldout)
            train, heldout = (pair_log_probabilities(loaded, part, bfloat16) for part in parts)
            computed = len(train) + len(heldout)
            with files.replacing(path) as part:
                np.savez(part, train=train, heldout=heldout)
        with np.load(path) as kept:
            return Reference(kept["train"], kept["heldout"], computed)
