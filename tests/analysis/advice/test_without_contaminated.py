"""Scores and recommendations without contaminated items, on a run with a planted leak."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.advice import without_contaminated
from analysis.advice.answers import Answers, answers
from analysis.fit.rates import RateStatus
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.report import build
from analysis.tables import load
from analysis.tables.external.adopt import adopt
from analysis.tables.item_tasks import item_tasks
from analysis.tables.options import ReadOptions
from analysis.tables.records import run_table
from tests.analysis.planted import bowl, run_folder, table
from trainers.evaluate.scores import mean_of_tasks

LEAKED = [f"world_choice {number}" for number in range(20)]


@pytest.fixture(scope="module")
def run(planted_run: Path, tmp_path_factory) -> Path:
    """The planted run, a third of whose choice items the training data holds."""
    path = Path(shutil.copytree(planted_run, tmp_path_factory.mktemp("leaks") / "run"))
    _audit(path, "world_choice", LEAKED)
    return path


def _audit(
    run: Path, benchmark: str, names: list[str], tokens: int = 1, too_short: int = 0
) -> None:
    folder = run / "audit"
    folder.mkdir()
    text = {"item_text": [["x", True]], "document_text": [["x", True]]}
    where = {"data": "talks", "share": 0.9, "row": 1, "turn": 1, "documents": 1}
    lines = [json.dumps({**where, **text, "benchmark": benchmark, "item": n}) for n in names]
    (folder / "contaminated.jsonl").write_text("\n".join(lines) + "\n")
    record = {
        "stages": {"pretrain": {"": []}, "sft": {"": ["talks"]}},
        "rule": {"n": 8, "threshold": 0.5, "normalisation": "tulu", "turns": "user"},
        "data": [
            {
                "name": "talks",
                "rows": 1,
                "unreadable": 0,
                "documents": 1,
                "tokens": tokens,
                "seconds": 0.1,
            }
        ],
        "benchmarks": [
            {"name": benchmark, "source": "", "items": 60, "public": 60, "too_short": too_short}
        ],
        "table": [
            {"data": "talks", "benchmark": benchmark, "contaminated": len(names), "items": 60}
            | {"share": len(names) / 60}
        ],
        "cores": 1,
    }
    (folder / "contamination.json").write_text(json.dumps(record))


PAIRS = [
    {"data": "a", "benchmark": "gsm8k", "item": "1"},
    {"data": "b", "benchmark": "gsm8k", "item": "2"},
]
TRIALS = [
    {"key": "base", "stage": "base", "parent": None, "arm": ""},
    {"key": "web", "stage": "sft", "parent": "base", "arm": "web"},
    {"key": "clean", "stage": "sft", "parent": "base", "arm": "clean"},
    {"key": "after web", "stage": "dpo", "parent": "web", "arm": ""},
    {"key": "after clean", "stage": "dpo", "parent": "clean", "arm": ""},
]


def test_an_item_leaks_into_the_models_that_have_seen_its_data():
    """Not into those of an arm with other data, nor into what starts from them."""
    stages = {"sft": {"web": ["a"], "clean": ["c"]}, "dpo": {"": ["b"]}}
    assert without_contaminated.leaked(PAIRS, stages, TRIALS) == {
        "web": {"1"}, "after web": {"1", "2"}, "after clean": {"2"},
    }  # fmt: skip


def test_earlier_records_have_the_data_of_a_stage_without_its_arms():
    stages = {"base": [], "sft": ["a", "c"], "dpo": ["b", "a", "c"]}
    leaks = without_contaminated.leaked(PAIRS, stages, TRIALS)
    assert leaks["clean"] == leaks["web"] == {"1"}
    assert leaks["after clean"] == {"1", "2"}


@pytest.mark.parametrize("gone", [20, 85])
def test_a_mean_of_tasks_is_that_of_what_is_left_of_each(gone):
    """Exactly, however much of one task has leaked."""
    easy, hard = np.tile([1.0, 1.0, 0.0], 80), np.tile([1.0, 0.0, 0.0, 0.0], 25)
    hard[:gone] = 1.0
    names = [f"{task}{n}" for task, x in (("easy", easy), ("hard", hard)) for n in range(len(x))]
    frame, items = _of_two_tasks(mean_of_tasks([easy, hard]), names)
    tasks = {name: name[:4] for name in names}
    leaks = {"row-0": frozenset(f"hard{n}" for n in range(gone))}
    clean = without_contaminated.without(frame, items, leaks, tasks)
    left = mean_of_tasks([easy, hard[gone:]])
    assert clean.frame.value.tolist() == pytest.approx([left.mean()])
    assert clean.frame.stderr.tolist() == pytest.approx([left.std(ddof=1) / len(left) ** 0.5])
    assert clean.items["value"].mean() == pytest.approx(left.mean())
    every = {"row-0": frozenset(name for name in names if name.startswith("hard"))}
    lost = without_contaminated.without(frame, items, every, tasks)
    assert lost.frame.empty, "the score of one task alone is another score"
    assert lost.scores.value_without.isna().all()


def _of_two_tasks(values: np.ndarray, names: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    row = {"learning_rate": 1e-3, "batch_size": 4, "benchmark": "arc", "value": values.mean()}
    items = {"key": "row-0", "benchmark": "arc", "metric": "value", "item": names, "value": values}
    return adopt(pd.DataFrame([row]), "here").frame, pd.DataFrame(items)


def test_the_task_of_an_item_is_known_by_its_place(tmp_path):
    """Of a benchmark of several, whichever metric has all items."""
    run = run_folder(tmp_path / "run", items=3)
    for path in run.glob("trials/*/scores/0000.json"):
        record = json.loads(path.read_text())
        settings = {"tasks": {"one": 1.0, "two": 1.0}, "n": {"one": 1, "two": 2}}
        path.write_text(json.dumps(record | {"settings": settings}))
    assert item_tasks(run, run_table.items(run)) == {
        "world_choice 0": "one", "world_choice 1": "two", "world_choice 2": "two",
    }  # fmt: skip


def _leaks(frame: pd.DataFrame, names: Iterable[str]) -> without_contaminated.Leaked:
    """Into every model of the stage."""
    return dict.fromkeys(frame.key[frame.stage == "sft"], frozenset(names))


def test_scores_without_leaks_are_the_means_of_the_other_items(run):
    frame, items = load.read(run), run_table.items(run)
    clean = without_contaminated.without(frame, items, _leaks(frame, LEAKED))
    kept = items[~items.item.isin(LEAKED) & (items.benchmark == "world_choice")]
    expected = kept.groupby("key").value.agg(["mean", "sem"])
    here = clean.frame[(clean.frame.stage == "sft") & (clean.frame.benchmark == "world_choice")]
    here = here[here.status == "ok"].set_index("key")
    assert len(here) > 10
    assert np.allclose(here.value, expected["mean"].loc[here.index])
    assert np.allclose(here.stderr, expected["sem"].loc[here.index])
    assert set(here.n) == {40}


def test_nothing_else_is_touched(run):
    frame, items = load.read(run), run_table.items(run)
    clean = without_contaminated.without(frame, items, _leaks(frame, LEAKED))
    elsewhere = ~((frame.stage == "sft") & (frame.benchmark == "world_choice"))
    pd.testing.assert_frame_equal(clean.frame[elsewhere], frame[elsewhere])
    assert set(clean.scores.stage) == {"sft"}
    assert set(clean.scores.benchmark) == {"world_choice"}


def test_an_item_that_occurs_twice_leaks_twice():
    frame = adopt(
        pd.DataFrame([{"learning_rate": 1e-3, "batch_size": 4, "benchmark": "arc", "value": 0.5}]),
        "here",
    ).frame
    items = pd.DataFrame(
        {"key": "row-0", "benchmark": "arc", "metric": "value", "value": [1.0, 1.0, 0.0, 1.0, 0.0]}
        | {"item": ["a", "a-2", "b", "c", "d"]}
    )
    clean = without_contaminated.without(frame, items, {"row-0": frozenset({"a"})})
    assert clean.items.item.tolist() == ["b", "c", "d"]
    assert clean.frame.value.tolist() == pytest.approx([1 / 3])


def test_a_score_without_a_clean_item_is_left_out(run):
    frame, items = load.read(run), run_table.items(run)
    clean = without_contaminated.without(frame, items, _leaks(frame, items.item))
    left = clean.frame[(clean.frame.stage == "sft") & (clean.frame.benchmark == "world_choice")]
    assert set(left.status) == {"diverged", "failed"}


def _answers(score) -> Answers:
    return answers([fit(cells) for cells in surfaces(table(score, noise=0.002))])


@pytest.fixture(scope="module")
def before() -> Answers:
    found = _answers(bowl)
    assert found.benchmarks["arc"].rates[0].status is RateStatus.INTERIOR
    return found


def test_an_answer_that_stays_is_told(before):
    (stays, kind) = without_contaminated.changes(before, _answers(bowl), {"arc"})
    assert not stays.changed and "the setting stays" in stays.sentence
    assert kind.label == "Reasoning" and not kind.changed
    assert without_contaminated.changes(before, before, {"gsm8k"})[1:] == []


def test_a_best_rate_that_moves_out_of_its_interval_is_told(before):
    moved = _answers(lambda x, y: bowl(x - 1.5, y + 1.0))
    (moves, *_) = without_contaminated.changes(before, moved, {"arc"})
    assert moves.changed and "is not the one that it is with them" in moves.sentence


def test_an_answer_that_is_lost_without_the_leak_is_told(before):
    flat = _answers(lambda x, y: 0.5 + 0 * x)
    (change, *_) = without_contaminated.changes(before, flat, {"arc"})
    assert change.changed
    none = before._replace(benchmarks={}, task_types={}, type_rates={})
    (gone, *_) = without_contaminated.changes(before, none, {"arc"})
    assert gone.changed and "no score is left" in gone.sentence


ONE = {"benchmark": "world_choice"}
"""Figures of the other benchmarks say nothing about leaks."""


def test_report_shows_scores_both_ways_and_links_the_audit(run):
    index = build.write(run, options=ReadOptions(where=ONE))
    text = index.read_text()
    assert "Without the items that the training data contains" in text
    assert "20 of 60" in text
    table = pd.read_csv(index.parent / "without_contaminated.csv")
    assert (table.n - table.n_without == 20).all()
    assert (index.parent / "audit.html").exists()
    assert 'href="audit.html"' in text


@pytest.mark.slow
def test_a_comparison_has_the_audit_of_each_run_that_was_audited(run, planted_run, tmp_path):
    index = build.write([planted_run, run], tmp_path / "out", options=ReadOptions(where=ONE))
    text = index.read_text()
    assert text.count("Without the items that the training data contains") == 1
    for link in ("planted__2_-audit.html", "planted__2_-without_contaminated.csv"):
        assert f'href="{link}"' in text and (index.parent / link).exists()
    assert 'href="planted-audit.html"' not in text
    (records,) = re.findall(
        r'href="([^"]+contaminated.jsonl)"',
        (tmp_path / "out" / "planted__2_-audit.html").read_text(),
    )
    assert (index.parent / records).resolve() == run / "audit" / "contaminated.jsonl"


def test_report_says_so_where_no_scored_item_is_contaminated(tmp_path):
    run = run_folder(tmp_path / "run")
    _audit(run, "world_choice", ["elsewhere"], too_short=12)
    text = build.write(run, options=ReadOptions(where=ONE)).read_text()
    assert "No scored item of the audited benchmarks is contaminated" in text
    assert "is not known" not in text
    assert "world_choice: 12 of 60 items are too short for 8-grams" in text


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ({"tokens": 0}, "talks: no token was read in 1 rows"),
        ({"too_short": 60}, "world_choice: of all 60 items too much is shorter than 8 tokens"),
    ],
)
def test_report_does_not_say_that_nothing_changes_where_the_audit_saw_nothing(seen, told, tmp_path):
    run = run_folder(tmp_path / "run")
    _audit(run, "world_choice", [], **seen)
    index = build.write(run, options=ReadOptions(where=ONE))
    text = index.read_text()
    assert "nothing changes" not in text and told in text
    assert "but not all could be looked for" in text
    assert told in (index.parent / "audit.html").read_text()


def test_report_says_so_where_an_audited_benchmark_is_not_scored(tmp_path):
    run = run_folder(tmp_path / "run")
    _audit(run, "truthfulqa", ["elsewhere"])
    text = build.write(run, options=ReadOptions(where=ONE)).read_text()
    assert "nothing changes" not in text
    assert "truthfulqa: 1 contaminated item, none of which this run scores" in text


def test_items_are_joined_whatever_the_audit_names_their_benchmark(run):
    """`arc` has the items of `arc_easy`, and a task file may go by its folder's name too."""
    items = run_table.items(run)
    pairs = [{"data": "talks", "benchmark": "choice", "item": name} for name in LEAKED]
    assert without_contaminated.unscored(pairs, {"world_choice"}, items) == {}
    pairs = [pair | {"item": "elsewhere"} for pair in pairs[:2]]
    assert without_contaminated.unscored(pairs, {"world_choice"}, items) == {"choice": 1}
