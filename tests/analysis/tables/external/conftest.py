"""A simulated sweep of known optimum, and ways to write it down."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.tables import load
from analysis.tables.options import ReadOptions
from analysis.tables.schema import Table

ROOT = Path(__file__).parents[4]
RATES = (1e-5, 2e-5, 4e-5, 8e-5, 1.6e-4)
SIZES = (8, 16, 32, 64)


@pytest.fixture
def sweep() -> pd.DataFrame:
    """20 runs, best at a learning rate of 4e-5, a batch size of 20 and a ratio of 2e-6."""
    frame = pd.DataFrame(
        [(rate, size) for rate in RATES for size in SIZES], columns=["learning_rate", "batch_size"]
    )
    off_ratio = np.log2(frame.learning_rate / frame.batch_size / 2e-6)
    off_rate = np.log2(frame.learning_rate / 4e-5)
    frame["eval/loss"] = (2 + 0.025 * off_ratio**2 + 0.01 * off_rate**2).round(4)
    return frame


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Table]:
    """Write a frame, a text or bytes to a file with this suffix, and read it with options."""

    def reader(content: pd.DataFrame | str | bytes, suffix: str = ".csv", **options) -> Table:
        path = tmp_path / f"table{suffix}"
        if isinstance(content, pd.DataFrame):
            content = content.to_csv(index=False)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load.read_table(path, ReadOptions(**options))

    return reader


@pytest.fixture(scope="session")
def cases() -> Path:
    """Inputs as people bring them, where this machine has them."""
    folder = Path(os.environ.get("SWEEP_CASES", ROOT.parent / "shared" / "cases"))
    if not folder.is_dir():
        pytest.skip(f"no cases: neither SWEEP_CASES nor {folder} is there")
    return folder
