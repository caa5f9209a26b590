import shutil
from pathlib import Path

import pytest


@pytest.fixture
def run(planted_run: Path, tmp_path: Path) -> Path:
    """A copy of the planted run."""
    return Path(shutil.copytree(planted_run, tmp_path / "run"))
