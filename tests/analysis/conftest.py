"""The planted run folder, written once for all tests of the analysis."""

from pathlib import Path

import planted
import pytest


@pytest.fixture(scope="session")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.run_folder(tmp_path_factory.mktemp("run"))
