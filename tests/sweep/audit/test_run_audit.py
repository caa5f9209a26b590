"""The audit of a sweep before its trials."""

import json
import shutil

import pytest

from sweep.audit import run_audit
from sweep.gridfile import load
from sweep.gridfile.load import GridError
from sweep.resolve.resolve import ResolvedGrid
from trainers.hub import Needs

AUDITED = """\
name: audited
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 60}
    steps: 2
    max_length: 128
    heldout: 8
    grid: {learning_rate: [0.001], batch_size: [4]}
evaluate: {benchmarks: [world_arithmetic], limit: 30, batch_size: 8}
audit: {contamination: [world_arithmetic], languages: true}
resources: {cpus_per_trial: 1}
"""


@pytest.fixture(scope="module")
def audited(drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "audited"
    return drive(AUDITED, folder)


def test_a_sweep_audits_before_its_trials(audited):
    assert audited.code == 0, audited.output
    words = audited.output
    assert words.index("audit: looking for 1 benchmark") < words.index("models done")
    record = json.loads((audited.path / "audit" / "contamination.json").read_text())
    (data,) = record["data"]
    assert (data["name"], data["rows"]) == ("world:sft:train[:60]", 60)
    assert record["stages"] == {"sft": {"": [data["name"]]}}
    assert (audited.path / "report" / "audit.html").exists()


def test_what_the_audit_finds_is_joined_with_the_scores(audited):
    import pandas as pd

    table = pd.read_csv(audited.path / "report" / "without_contaminated.csv")
    names = {
        json.loads(line)["item"]
        for line in (audited.path / "audit" / "contaminated.jsonl").read_text().split("\n")
        if line
    }
    scored = {
        name
        for path in audited.path.glob("trials/sft*/scores/*.parquet")
        for name in pd.read_parquet(path).item
    }
    assert set(table.stage) == {"sft"}, "the base model has seen no data"
    assert set(table.n - table.n_without) == {len(names & scored)}
    assert len(names & scored) > 0


def test_the_same_audit_is_not_run_again(audited, drive, tmp_path):
    run = shutil.copytree(audited.path, tmp_path / audited.path.name)
    again = drive(AUDITED, run)
    assert again.code == 0
    assert "audit:" not in again.output
    wider = drive(AUDITED.replace("languages: true", "languages: true, n: 5"), run)
    assert "audit: looking for" in wider.output
    assert "audit: counting" not in wider.output


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{contamination: [gsm9k]}", "audit.contamination[0]: 'gsm9k' is not a benchmark"),
        ("{contaminations: [gsm8k]}", "audit.contaminations: unknown key; did you mean"),
        ("{threshold: 1}", "audit.threshold: 1: "),
        ("{turns: system}", "audit.turns: 'system': "),
        ("{contamination: [gsm8k, arc, gsm8k]}", "audit.contamination[2]: 'gsm8k' stands twice"),
        ("{contamination: [a/q.jsonl, b/q.jsonl]}", "'q' stands twice; give the second another"),
        (
            "{contamination: [world_arithmetic=pyproject.jsonl]}",
            "world_arithmetic is evaluated here; give its name alone",
        ),
        (
            "{contamination: [world_arithmetic.jsonl]}",
            "world_arithmetic is evaluated here; give its name alone",
        ),
    ],
)
def test_a_wrong_audit_key_is_told_with_its_place(grid_file, written, told, tmp_path):
    text = AUDITED.replace("{contamination: [world_arithmetic], languages: true}", written)
    with pytest.raises(GridError) as error:
        load.load(grid_file(text))
    assert told in str(error.value)


ARMS = """\
heldout: 0
    arms:
      - {name: web, set: {data: {name: FILE, columns: {prompt: a, completion: b}}}}
      - {name: swapped, set: {data: {name: FILE, columns: {prompt: b, completion: a}}}}
      - {name: plain, set: {}}
"""


def test_each_arm_has_its_own_data_and_each_reading_of_it_is_audited(grid_file, tmp_path):
    """The columns of a file decide what of it the user says."""
    web_file = tmp_path / "web.jsonl"
    web_file.write_text("{}\n" * 8)
    grid = load.load(
        grid_file(AUDITED.replace("heldout: 8\n", ARMS.replace("FILE", str(web_file))))
    )
    arms = run_audit.seen_by(grid)["sft"]
    (web,), (swapped,), (plain,) = (arms[name] for name in ("web", "swapped", "plain"))
    assert plain == "world:sft:train[:60]"
    needed = Needs(models=(), data=(), evaluate=None, offline=True)
    data = run_audit.readings(ResolvedGrid(grid, needed, {}, {}, {}))
    assert list(data) == [web, swapped, plain]
    assert data[web].data.columns != data[swapped].data.columns
