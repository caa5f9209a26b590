"""A failure that was mended is tried again by the same command, and nothing else is."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.own_task import WRITTEN, own_task

CASES = Path(os.environ.get("SWEEP_CASES", Path(__file__).parents[3] / "shared" / "cases"))

CHECKED = f"""\
{WRITTEN}\
generation_kwargs: {{until: [], max_gen_toks: 2}}
process_results: !function utils.check
metric_list: [{{metric: right, aggregation: mean, higher_is_better: true}}]
"""

CHECK = """\
def check(doc, results):
    assert results[0] == "0", "an answer that the author did not expect"
    return {"right": 1.0}
"""


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A task that passes on the trial's nonsense and fails on what a model writes."""
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "utils.py").write_text(CHECK)
    return own_task(tmp_path, [{"q": "Copy: a", "a": "a"}], CHECKED)


def starts(run) -> int:
    lines = [file.read_text() for file in run.glob("trials/*/attempts.jsonl")]
    return "".join(lines).count('"event": "started"')


@pytest.mark.slow
def test_evaluation_that_failed_is_tried_again_when_its_task_has_changed(
    task, small, drive, tmp_path
):
    run = tmp_path / "runs" / "run"
    text = small.replace("[world_choice]", f"[{task}]").replace("cpus_per_trial: 1", "retries: 0")
    failed = drive(text, run)
    assert failed.code == 3
    assert "an answer that the author did not expect" in failed.output
    assert "--retry-failed tries the failed ones again" in failed.output
    before = starts(run)
    assert drive(text, run).code == 3
    assert starts(run) == before, "nothing has changed"
    (task.parent / "utils.py").write_text(CHECK.replace("results[0] ==", "results[0] or"))
    mended = drive(text, run)
    assert mended.code == 0
    assert starts(run) == before + 3
    table = pd.read_csv(run / "results.csv")
    assert set(table[table.benchmark == "mine"].status) == {"ok"}


def test_refused_start_leaves_no_trials(task, small, drive, tmp_path):
    (task.parent / "utils.py").write_text("def other(): pass\n")
    refused = drive(small.replace("[world_choice]", f"[{task}]"), tmp_path / "runs" / "run")
    assert refused.code == 2
    assert not (tmp_path / "runs" / "run").exists()


def test_failure_before_what_has_changed_counts_no_more(tmp_path):
    from sweep.storage.trial_folder import TrialFolder

    folder = TrialFolder(tmp_path)
    for phase in ("train", "evaluate"):
        folder.log_attempt("started", setting="old", missing=["a", "b"])
        folder.log_attempt("failed", phase=phase)
    assert folder.failures() == 2
    assert folder.failures("old", ["a", "b"]) == folder.failures("old", ["b"]) == 2
    assert folder.failures("new", ["a", "b"]) == folder.failures("old", ["a", "c"]) == 1
    assert folder.failures("new", ["c"]) == 0


def test_failures_of_earlier_versions_count(tmp_path):
    from sweep.storage.trial_folder import TrialFolder

    folder = TrialFolder(tmp_path)
    folder.log_attempt("started", attempt=1)
    folder.log_attempt("failed", phase="train")
    folder.log_attempt("failed", phase="evaluate")
    assert folder.failures("new", ["c"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "benchmark", "metric", "higher_is_better", "items"),
    [
        ("37-perplexity-tasks/grid_my_ppl", "my_ppl", "word_perplexity", False, 12),
        ("38-group-file/grid_by_name", "by_name", "acc", True, 22),
        ("40-task-data-paths/grid_block_style", "block_style", "acc", True, 12),
    ],
)
def test_case_is_scored_and_reported(
    case, benchmark, metric, higher_is_better, items, drive, tmp_path, monkeypatch
):
    folder, _, name = case.partition("/")
    if not (CASES / folder).is_dir():
        pytest.skip(f"no case {case}: {CASES} is not there")
    monkeypatch.chdir(shutil.copytree(CASES / folder, tmp_path / "case"))
    ended = drive(Path(f"{name}.yaml").read_text(), tmp_path / "runs" / "run")
    assert ended.code == 0, ended.output
    table = pd.read_csv(ended.path / "results.csv")
    primary = table[(table.benchmark == benchmark) & table.primary & (table.stage == "sft")]
    assert len(primary) == 2
    assert set(primary.metric) == {metric}
    assert set(primary.higher_is_better) == {higher_is_better}
    assert set(primary.n) == {items}
    assert (primary.stderr > 0).all()
    assert (ended.path / "report" / "index.html").exists()


@pytest.mark.slow
def test_case_of_a_parent_by_perplexity_starts_from_the_lowest(drive, tmp_path, monkeypatch):
    if not (CASES / "51-best-by-perplexity").is_dir():
        pytest.skip(f"{CASES} is not there")
    for name in ("37-perplexity-tasks", "51-best-by-perplexity"):
        shutil.copytree(CASES / name, tmp_path / "cases" / name)
    monkeypatch.chdir(tmp_path / "cases" / "51-best-by-perplexity")
    ended = drive(Path("parent.yaml").read_text(), tmp_path / "runs" / "run")
    assert ended.code == 0, ended.output
    choice = json.loads((ended.path / "choices" / "b.json").read_text())
    assert choice["value"] == min(choice["candidates"].values())
    assert len(choice["candidates"]) == 2
