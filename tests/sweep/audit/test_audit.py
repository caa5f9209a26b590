"""The audit's command."""

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from analysis.audit import tables
from sweep.audit import __main__ as audit

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
    return tables.contaminated(folder / "audit")


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


def test_data_of_which_nothing_was_read_is_not_taken_for_clean(place):
    (place / "clean.jsonl").write_text(lines(said("Hello there, my friend.")))
    (place / "none.jsonl").write_text(lines({"prompt": "", "completion": "x y z"}))
    ended = command("contamination", "clean.jsonl", "none.jsonl", "--benchmarks", "quiz.jsonl")
    assert ended.exit_code == 3
    assert re.search(r"none +- +0 of 2", ended.output)
    assert re.search(r"clean +0\.00 +0 of 2", ended.output)


def test_an_item_in_two_data_sets_is_one_item(place):
    shutil.copy("talks.jsonl", "again.jsonl")
    command("contamination", "talks.jsonl", "again.jsonl", "--benchmarks", "quiz.jsonl")
    (together,) = json.loads((place / "audit" / "contamination.json").read_text())["together"]
    assert (together["contaminated"], together["items"]) == (1, 2)
    assert "Contaminated items: 1<" in (place / "audit" / "index.html").read_text()


@pytest.mark.parametrize("sign", ["\u2028", "\x85"])
def test_a_line_separator_in_a_contaminating_row_ends_no_record(place, sign):
    (place / "talks.jsonl").write_text(lines(said(f"Read:{sign} {QUESTION}")))
    ended = command("contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl")
    assert ended.exit_code == 0
    (pair,) = contaminated(place)
    assert sign in pair["document_text"][0][0]


def test_half_a_character_is_a_row_that_cannot_be_read_as_in_training(place):
    rows = [said(f"{QUESTION} \ud83d"), *[said("Hello there, my friend.")] * 100]
    (place / "talks.jsonl").write_text(lines(*rows))
    ended = command("contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl")
    assert ended.exit_code == 0
    assert "talks: 1 rows cannot be read and are left out" in ended.output
    assert contaminated(place) == []


def test_fields_of_a_file_are_named_by_plus_and_stand_on_the_page(place):
    ended = command("contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl:answer+question")
    assert ended.exit_code == 0
    assert "compared of each item: quiz (question)" in ended.output
    assert '<small class="quiet">question</small>' in (place / "audit" / "index.html").read_text()
    ended = command("contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl:answer,question")
    assert ended.exit_code == 2 and "are named by PATH:field+field" in ended.stderr


def test_a_turn_is_numbered_as_it_stands_in_its_row(place):
    """Where the same is said twice before it, too."""
    again = [{"role": role, "content": "go on"} for role in ("user", "assistant") * 2]
    row = {"messages": [*again, *said(QUESTION)["messages"]]}
    (place / "talks.jsonl").write_text(lines(row))
    command("contamination", "talks.jsonl", "--benchmarks", "quiz.jsonl")
    (pair,) = contaminated(place)
    assert pair["turn"] == 5


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
        (
            [said("Hello.")],
            ["--n", "40"],
            "quiz: of all 2 items too much is shorter than 40 tokens",
        ),
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
