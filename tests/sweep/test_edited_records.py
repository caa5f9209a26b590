"""Records that somebody has edited: report (exit 2) and status (exit 4) say in one line which
and what is wrong; neither shows such a number."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.advice import grid_file
from analysis.report import build
from analysis.tables.errors import ResultsError
from sweep import status


@pytest.fixture
def edited(chain_run, tmp_path):
    """A copy of a run in which `change` was made to the first file of a pattern."""

    def edit(pattern: str, change) -> Path:
        run = Path(shutil.copytree(chain_run.path, tmp_path / "edited"))
        path = sorted(run.glob(pattern))[0]
        path.write_text(change(path.read_text()))
        return run

    return edit


def having(**facts):
    return lambda text: json.dumps(json.loads(text) | facts)


def score_having(**facts):
    def change(text: str) -> str:
        record = json.loads(text)
        record["scores"][0] |= facts
        return json.dumps(record)

    return change


CHOICE = "trials/first-lr*/scores/*.json"
BOTH = [
    ("plan.csv", lambda text: text.replace("key,", "kei,", 1), "plan.csv"),
    ("plan.csv", lambda text: "", "plan.csv"),
    ("trials/first-lr*/train.json", having(status=5), "status: "),
    (CHOICE, score_having(stderr="x"), "stderr is 'x', which is no number"),
    (CHOICE, score_having(value=[1]), "value is [1], which is no number"),
    (CHOICE, score_having(value="x"), "value is 'x', which is no number"),
    ("trials/second-lr*/trial.json", lambda text: '{"spec": 5}', "trials/second-lr"),
    ("manifest.json", having(stages=[]), "manifest.json"),
]
REPORT = [
    ("cost.json", lambda text: "{}", "cost.json: words"),
    ("cost.json", lambda text: "{", "cost.json: not JSON"),
    ("manifest.json", having(name=5), "manifest.json: name"),
    (CHOICE, having(settings=5), "settings: holds no object"),
    ("trials/second-lr*/trial.json", having(spec={}), "spec.learning_rate: is no number"),
]


@pytest.mark.parametrize(("pattern", "change", "told"), [*BOTH, *REPORT])
def test_the_report_refuses_it_by_name(pattern, change, told, edited):
    run = edited(pattern, change)
    with pytest.raises(ResultsError) as refused:
        build.write(run)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("pattern", "change", "told"), BOTH)
def test_the_status_refuses_it_by_name(pattern, change, told, edited):
    shown = CliRunner().invoke(status.app, [str(edited(pattern, change))])
    assert shown.exit_code == 4, shown.output
    assert told.split(":")[0] in shown.output
    assert "Traceback" not in shown.output


def test_an_accuracy_of_seven_is_shown_by_neither(edited):
    def seven(text: str) -> str:
        record = json.loads(text)
        for score in record["scores"]:
            score["value"] = 7.0 if score["metric"].startswith("acc") else score["value"]
        return json.dumps(record)

    run = edited("trials/second-lr*/scores/*.json", lambda text: text)
    for path in run.glob("trials/second-lr*/scores/*.json"):
        path.write_text(seven(path.read_text()))
    shown = CliRunner().invoke(status.app, [str(run)])
    assert shown.exit_code == 4, shown.output
    assert "7.0, which has to lie between 0 and 1" in shown.output.replace("\n", " ")
    report = subprocess.run(
        [sys.executable, "-m", "analysis.report", str(run)], capture_output=True, text=True
    )
    assert report.returncode == 2
    assert "7.0, which has to lie between 0 and 1" in report.stdout + report.stderr


@pytest.mark.parametrize("line", ["5", "[1]", '{"event": "decided"}'])
def test_events_that_were_never_written_leave_the_page_as_it_is(line, edited, chain_run):
    page = build.write(edited("events.jsonl", lambda text: f"{text}{line}\n"))
    assert page.read_text() == (chain_run.path / "report" / page.name).read_text()


@pytest.mark.parametrize("line", ["5", "[1]", "{}"])
def test_steps_that_were_never_written_leave_the_page_as_it_is(line, edited, chain_run):
    page = build.write(edited("trials/second-lr*/metrics.jsonl", lambda text: f"{text}{line}\n"))
    assert page.read_text() == (chain_run.path / "report" / page.name).read_text()


@pytest.mark.parametrize("text", ["[", "5"])
def test_a_grid_that_is_none_is_refused_by_name(text, tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(text)
    with pytest.raises(ResultsError, match=r"grid\.yaml: is not the grid"):
        grid_file.read("sft", "", file)
