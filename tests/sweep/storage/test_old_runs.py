"""Run folders that earlier versions have written go on, or are refused in one sentence.

`old_runs` has the records of one grid (OLD), run by the code of the day that is the file's name;
weights, prepared data and reports are left out.
"""

import hashlib
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis.tables.errors import ResultsError
from analysis.tables.records import run_folder, run_table
from sweep import status
from sweep.storage import run_folder as written
from trainers import files

ARCHIVES = sorted((Path(__file__).parent / "old_runs").glob("*.tar.xz"))

OLD = """
name: old
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 60}
    heldout: 20
    max_length: 128
    steps: 3
    grid:
      learning_rate: [1.0e-4, 1.0e-3]
      batch_size: [4, 8]
evaluate:
  benchmarks: [world_choice]
  limit: 20
resources: {cpus_per_trial: 1}
"""

NOT_KEPT = ["eval_seconds", "status", "reason"]


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.split(".")[0])
def old(request, tmp_path) -> Path:
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "old"


def contents(folder: Path) -> dict[str, str]:
    """Of the records of the trials, by path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("trials/*/**/*")
        if path.is_file() and path.name not in ("attempts.jsonl", "log.txt")
    }


def test_there_are_archives_of_two_versions():
    assert len(ARCHIVES) >= 2


def test_table_from_the_records_is_the_table_of_then(old):
    then = pd.read_csv(old / "results.csv")
    run_table.write(old)
    pd.testing.assert_frame_equal(pd.read_csv(old / "results.csv")[then.columns], then)


def test_status_shows_the_old_run(old):
    shown = CliRunner().invoke(status.app, [str(old)], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "5 ok" in shown.output.replace("of 5", "")


def test_other_code_is_refused_and_nothing_changes(old, drive):
    before = contents(old)
    ended = drive(OLD, old)
    assert ended.code == 4
    assert "files of trainers/ differ" in ended.output
    assert contents(old) == before


def test_run_goes_on_without_training_anew(old, drive):
    before, then = contents(old), pd.read_csv(old / "results.csv")
    ended = drive(OLD, old, "--changed-code")
    assert "no weights are left" in ended.output, "of a benchmark that is scored differently now"
    after = contents(old)
    assert {name: after[name] for name in before} == before
    now = pd.read_csv(old / "results.csv")
    rows = now[now.benchmark == "heldout_loss"].reset_index(drop=True)
    expected = then[then.benchmark == "heldout_loss"].reset_index(drop=True)
    columns = [name for name in then.columns if name not in NOT_KEPT]
    pd.testing.assert_frame_equal(rows[columns], expected[columns], check_dtype=False)


def test_folder_of_a_later_version_is_refused(old, drive):
    record = files.read_json(old / "manifest.json")
    files.write_json(old / "manifest.json", {**record, "layout": written.LAYOUT + 1})
    before = contents(old)
    ended = drive(OLD, old)
    assert ended.code == 2 and "a later version" in ended.output
    shown = CliRunner().invoke(status.app, [str(old)], catch_exceptions=False)
    assert shown.exit_code == 4
    with pytest.raises(ResultsError, match="a later version"):
        run_table.write(old)
    assert contents(old) == before


def test_both_packages_know_the_same_layout():
    assert run_folder.LAYOUT == written.LAYOUT
