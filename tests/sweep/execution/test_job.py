"""What runs is pinned to commits and absolute paths; what identifies it stays as declared."""

from typing import Annotated

import pytest

from sweep.execution.job import Job, moved
from sweep.execution.job import pinned as pin
from sweep.plan.evaluations import wanted
from sweep.resolve.pin import spec as pin_spec
from trainers.specs.file_names import NamesFile, given
from trainers.specs.identity import identity
from trainers.specs.rlvr import RlvrSpec

COMMITS = {"model:owner/name": "c" * 40, "data:a/b@main": "d" * 40}


@pytest.fixture
def job(load, planned, small, monkeypatch):
    """The job of a trial of SMALL under overrides."""

    def make(*overrides: str) -> Job:
        grid, trial = load(small, *overrides), planned(small, *overrides)[-1]
        marks = {cell.data.label: "x" for _, cell in grid.stages["sft"].cells}
        return Job(
            trial=trial, folder="", parent_folder=None, data="", wanted=wanted(grid, marks)["sft"],
            evaluate=grid.evaluate, threads=1, evaluation_threads=1,
        )  # fmt: skip

    return make


def test_hub_names_run_at_the_commits_that_were_fetched(job):
    declared = job("model=owner/name", "stages.sft.data.name=a/b")
    pinned = pin(declared, COMMITS)
    assert pinned.trial.model.revision == "c" * 40
    heldout = next(want.heldout for want in pinned.wanted if want.heldout)
    assert {pinned.trial.spec.data.revision, heldout.data.revision} == {"d" * 40}


def test_local_names_run_as_absolute_paths(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n' * 40)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    pinned = pin(job("model=model", "stages.sft.data.name=rows.jsonl"), {})
    heldout = next(want.heldout for want in pinned.wanted if want.heldout)
    assert pinned.trial.model.name == str(tmp_path / "model")
    assert pinned.trial.spec.data.name == heldout.data.name == str(tmp_path / "rows.jsonl")


def test_files_of_a_stage_run_as_absolute_paths(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.jinja").write_text("{{ messages[0].content }}")
    pinned = pin(job("stages.sft.chat_template=talk.jinja"), {})
    heldout = next(want.heldout for want in pinned.wanted if want.heldout)
    own = str(tmp_path / "talk.jinja")
    assert pinned.trial.spec.chat_template == heldout.chat_template == own
    rlvr = {"kind": "rlvr", "data": "world:prompts", "learning_rate": 1e-4, "batch_size": 8}
    for reward, runs in (("mine.py:f", f"{tmp_path}/mine.py:f"), ("gsm8k", "gsm8k")):
        spec = RlvrSpec.model_validate(rlvr | {"reward": reward})
        assert pin_spec(spec, {}).reward == runs


def test_key_and_names_of_the_project_stay(job):
    declared = job()
    assert pin(declared, COMMITS) == declared
    hub = job("model=owner/name")
    assert pin(hub, COMMITS).trial.key == hub.trial.key


class WithRules(RlvrSpec):
    """A kind of stage with one more key of each sort that names files."""

    rules: Annotated[str | None, NamesFile("file")] = None
    penalty: Annotated[str | None, NamesFile("function")] = None
    teacher: Annotated[str | None, NamesFile("model")] = None


@pytest.fixture
def ruled(tmp_path, monkeypatch) -> WithRules:
    monkeypatch.chdir(tmp_path)
    for name in ("rules", "elsewhere"):
        (tmp_path / f"{name}.txt").write_text("be brief")
        (tmp_path / f"{name}.py").write_text("def f(**all): ...")
    settings = {"kind": "rlvr", "data": "a/b", "learning_rate": 1e-4, "batch_size": 8}
    names = {"rules": "rules.txt", "penalty": "rules.py:f", "teacher": "folder", "reward": "gsm8k"}
    return WithRules.model_validate(settings | names)


def test_content_of_any_marked_file_is_in_the_key_and_its_name_is_not(ruled, tmp_path):
    facts = identity(ruled)
    other = ruled.model_copy(update={"rules": "elsewhere.txt", "penalty": "elsewhere.py:f"})
    assert identity(other) == facts
    assert (facts["teacher"], facts["reward"]) == ("folder", "gsm8k")
    (tmp_path / "elsewhere.txt").write_text("be long")
    assert identity(other)["rules"] != facts["rules"]


def test_any_marked_file_runs_under_its_absolute_path(ruled, tmp_path):
    pinned = pin_spec(ruled, COMMITS)
    assert given([pinned], "file") == [("rules", f"{tmp_path}/rules.txt")]
    assert given([pinned, pinned], "function") == [
        ("reward", "gsm8k"), ("penalty", f"{tmp_path}/rules.py:f"),
    ]  # fmt: skip
    assert given([pinned], "model") == [("teacher", f"{tmp_path}/folder")]
    assert "chat_template" not in pinned.model_fields_set


def test_any_marked_file_goes_to_nodes_that_share_no_folder(job, ruled):
    declared, named = job(), set()
    trial = declared.trial.model_copy(update={"spec": ruled})
    moved(declared._replace(trial=trial, wanted=()), lambda name: named.add(name) or name)
    assert named == {trial.model.name, "a/b", "rules.txt", "rules.py", "folder"}
