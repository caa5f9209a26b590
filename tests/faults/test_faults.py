"""Each fault of the matrix once; `make faults` tries them and prints the table."""

import math

import pandas as pd
import pytest

from tests.faults import chaos, matrix, runs
from tests.faults.matrix import FAULTS
from tests.faults.records import CODE_FILES
from tests.faults.runs import ROOT


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> pd.DataFrame:
    return matrix.reference(tmp_path_factory.mktemp("faults"))


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_run_ends_as_if_nothing_had_happened(fault, undisturbed, tmp_path):
    found = matrix.tried(fault, tmp_path / "fault", undisturbed, seed=1)
    assert not found.broken
    assert found.verdict is not None
    assert found.verdict[:2] == (0, 0)
    assert found.verdict.difference <= fault.tolerance


@pytest.mark.slow
def test_three_minutes_of_chaos(capfd):
    arguments = ["--minutes", "3", "--every", "30", "--cells", "16"]
    assert chaos.main(arguments) == 0
    assert "lost 0, doubled 0, difference 0" in capfd.readouterr().out


TABLE = pd.DataFrame(
    {
        "key": ["a", "a", "b"],
        "benchmark": ["x", "y", "x"],
        "metric": ["acc", "acc", "acc"],
        "status": ["ok", "ok", "diverged"],
        "value": ["0.5", "0.25", ""],
    }
)


@pytest.mark.parametrize("name", CODE_FILES)
def test_code_that_faults_edit_is_there(name):
    assert (ROOT / "trainers" / name).is_file()


def test_judge_finds_nothing_in_equal_tables():
    assert runs.judged(TABLE, TABLE) == (0, 0, 0.0)


def test_judge_finds_a_lost_and_a_failed_cell():
    assert runs.judged(TABLE[TABLE.key == "a"], TABLE).lost == 1
    assert runs.judged(TABLE.assign(status="failed"), TABLE).lost == 2


def test_judge_finds_a_doubled_cell():
    twice = pd.concat([TABLE, TABLE.iloc[:1]], ignore_index=True)
    assert runs.judged(twice, TABLE) == (0, 1, math.inf)


def test_judge_finds_another_number_and_another_word():
    other = TABLE.assign(value=["0.5", "0.375", ""])
    assert runs.judged(other, TABLE).difference == 0.125
    assert runs.judged(TABLE.assign(metric="f1"), TABLE).difference == math.inf
