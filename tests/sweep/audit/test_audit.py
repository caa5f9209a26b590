"""The audit's command, and the audit of a sweep before its trials."""

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from sweep.audit import __main__ as audit
from sweep.gridfile import load
from sweep.gridfile.load import GridError

QUESTION = "How many of the nine grey geese on the village pond fly away when the dog barks?"
OTHER = "Which of the seven rivers that cross the old province carries the most water in spring?"


def lines(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def said(user: str, assistant: str = "I do not know.") -> dict:
    return {
        "messages": [
            {"role": "user", "content": user}, {"role": "assistant", "content": assistant},
        ]
    }  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a benchmark of two items; one is in what a user, one in what the assistant
    says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quiz.jsonl").write_text(lines({"question": QUESTION}, {"question": OTHER}))
    rows = said("Hello there, my friend."), said(f"Tell me: {QUESTION.upper()}", OTHER)
    (tmp_path / "talks.jsonl").write_text(lines(*rows))
    return tmp_path


def command(*arguments: str):
    return CliRunner().invoke(audit.app, list(arguments), catch_exceptions=False)


def contaminated(folder) -> list[dict]:
    text = (folder / "audit" / "contaminated.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_contamination_prints_percent_with_counts_and_the_pair(place):
    ended = command("contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl")
    assert ended.exit_code == 0, ended.output
    assert re.search(r"quiz +2 +talks +50\.00 +1 of 2", ended.output)
    assert "geese" in ended.output and "GEESE" in ended.output
    (pair,) = contaminated(place)
    assert (pair["benchmark"], pair["row"], pair["turn"], pair["share"]) == ("quiz", 2, 1, 1.0)
    assert [text for text, marked in pair["item_text"] if marked] == [QUESTION[:-1]]
    assert (place / "audit" / "index.html").exists()


@pytest.mark.parametrize(("turns", "rows"), [("user", 1), ("assistant", 1), ("all", 2)])
def test_turns_decide_who_is_listened_to(place, turns, rows):
    command("contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl", "--turns", turns)
    found = contaminated(place)
    assert len(found) == rows
    assert {pair["turn"] for pair in found} == {"user": {1}, "assistant": {2}, "all": {1, 2}}[turns]


def test_n_and_threshold_are_options(place):
    (place / "talks.jsonl").write_text(lines(said(QUESTION[: len(QUESTION) // 3])))
    for options, expected in (((), 0), (("--threshold", "0.1", "--n", "5"), 1)):
        command("contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl", *options)
        assert len(contaminated(place)) == expected


def test_languages_prints_shares(place):
    ended = command("languages", "talks.jsonl")
    assert ended.exit_code == 0, ended.output
    record = json.loads((place / "audit" / "languages.json").read_text())
    assert record["data"][0]["conversations"] == {"en": 2}
    assert "English" in ended.output and "100.00" in ended.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["contamination", "none.jsonl", "--benchmarks", "quiz.jsonl"], "no file 'none.jsonl'"),
        (["contamination", "talks.jsonl", "--benchmarks", "gsm9k"], "'gsm9k' is not a benchmark"),
        (["contamination", "talks.jsonl", "--benchmarks", ","], "name at least one"),
        (
            ["contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl,quiz=quiz.jsonl"],
            "'quiz' stands twice",
        ),
        (
            ["contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl", "--turns", "both"],
            "--turns: 'both'",
        ),
        (
            ["contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl", "--threshold", "1.5"],
            "--threshold: 1.5",
        ),
        (["languages", "talks.jsonl", "talks.jsonl"], "'talks.jsonl' stands twice"),
    ],
)
def test_a_wrong_command_line_is_told_and_is_exit_2(place, arguments, told):
    ended = command(*arguments)
    assert ended.exit_code == 2
    assert told in ended.stderr
    assert not (place / "audit").exists()


def test_a_row_in_no_known_form_is_told_with_its_number_and_is_exit_4(place):
    (place / "talks.jsonl").write_text(lines(said("Hello."), {"dialogue": "x"}))
    ended = command("languages", "talks.jsonl")
    assert ended.exit_code == 4
    assert "talks: 1 of 2 rows cannot be read" in ended.stderr
    assert "row 2: a row" in ended.stderr and "dialogue" in ended.stderr


@pytest.mark.parametrize(
    ("rows", "options", "reason"),
    [
        ([{"prompt": "", "completion": "x y z"}], [], "talks: no token was read in 1 rows"),
        ([], [], "talks: no token was read in 0 rows"),
        ([said("Hello.")], ["--n", "40"], "quiz: all 2 items are shorter than 40 tokens"),
    ],
)
def test_an_audit_that_read_nothing_says_so_and_is_exit_3(place, rows, options, reason):
    (place / "talks.jsonl").write_text(lines(*rows))
    ended = command("contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl", *options)
    assert ended.exit_code == 3
    assert reason in ended.stderr
    assert "0.00" not in ended.output


def test_languages_of_no_text_are_exit_3(place):
    (place / "talks.jsonl").write_text(lines(said("", "")))
    ended = command("languages", "talks.jsonl")
    assert ended.exit_code == 3
    assert "talks: no text was read in 1 conversations" in ended.stderr


SHAREGPT = {
    "conversations": [
        {"from": "human", "value": f"Tell me: {QUESTION}"},
        {"from": "gpt", "value": "I do not know."},
    ]
}
HH = {
    "chosen": f"\n\nHuman: Tell me: {QUESTION}\n\nAssistant: Six.",
    "rejected": f"\n\nHuman: Tell me: {QUESTION}\n\nAssistant: Who knows.",
}


@pytest.mark.parametrize("row", [SHAREGPT, HH], ids=["ShareGPT", "HH-RLHF"])
def test_the_audit_reads_the_turns_that_training_reads(place, row):
    (place / "talks.jsonl").write_text(lines(row, said("Hello there, my friend.")))
    ended = command("contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl")
    assert ended.exit_code == 0, ended.output
    (pair,) = contaminated(place)
    assert (pair["row"], pair["turn"]) == (1, 1)


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
    assert record["stages"] == {"base": [], "sft": [data["name"]]}
    assert (audited.path / "report" / "audit.html").exists()


def test_what_the_audit_finds_is_joined_with_the_scores(audited):
    import pandas as pd

    table = pd.read_csv(audited.path / "report" / "without_contaminated.csv")
    names = {
        json.loads(line)["item"]
        for line in (audited.path / "audit" / "contaminated.jsonl").read_text().splitlines()
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
