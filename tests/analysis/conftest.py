"""The planted run folder, written once for all tests of the analysis."""

import shutil
from pathlib import Path

import pytest

from analysis.report import build
from tests.analysis import planted


@pytest.fixture(scope="session")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.run_folder(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def planted_report(planted_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a copy of the planted run; written again it has the same bytes."""
    run = Path(shutil.copytree(planted_run, tmp_path_factory.mktemp("report") / "run"))
    return build.write(run)
