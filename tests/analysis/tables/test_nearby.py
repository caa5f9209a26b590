"""Paths that are none of what a command reads: what it says to give in their place."""

from pathlib import Path

import pytest

from analysis.tables.nearby import hint


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two runs in runs/."""
    for name in ("lr_bs", "quickstart"):
        report = tmp_path / "runs" / name / "report"
        report.mkdir(parents=True)
        for file in ("manifest.json", "plan.csv"):
            (report.parent / file).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("quickstart", "there is runs/quickstart"),
        ("quikstart", "there is runs/quickstart"),
        ("nothing_alike", "there is runs/lr_bs or runs/quickstart"),
        ("runs", "it holds runs: give runs/lr_bs or runs/quickstart"),
        ("file:///tmp/x.csv", "give the path alone: /tmp/x.csv"),
        ("https://host/y.csv", "fetch the file"),
        ("s3://bucket/y.csv", "fetch the file"),
        ("s3://bucket/runs/model-1.7b", "and give runs/model-1.7b"),
        (
            "s3://bucket/runs/mine",
            "remote_run s3://bucket/runs/mine runs/mine`, and give runs/mine",
        ),
    ],
)
def test_the_next_step_is_named(given: str, said: str) -> None:
    assert said in hint(Path(given))


def test_what_lies_in_a_run_folder_leads_to_it(here: Path) -> None:
    assert hint(here / "runs" / "lr_bs" / "report") == f"; its run folder is {here}/runs/lr_bs"
    assert hint(here / "runs" / "lr_bs" / "plan.csv") == f"; its run folder is {here}/runs/lr_bs"


def test_nothing_is_said_where_nothing_is_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert hint(Path("nowhere")) == ""
