"""lm-eval for real on the tiny model: our numbers are its numbers, with an error and items."""

import copy
import json
from typing import Any

import lm_eval
import numpy as np
import pytest
from lm_eval.tasks import TaskManager

from trainers import benchmarks, evaluate
from trainers.benchmarks import EvaluationUnavailable
from trainers.spec import EvaluateSpec
from trainers.world import generate

WORLD = ["world_choice", "world_arithmetic", "world_continuation", "world_instruction"]

TASK = """\
task: mine
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/items.jsonl}, cache_dir: FOLDER/cache}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: [], max_gen_toks: 6, do_sample: false}
process_results: !function helper.process_results
metric_list:
  - {metric: length, aggregation: mean, higher_is_better: false}
  - {metric: vowels, aggregation: mean, higher_is_better: true}
"""

HELPER = """\
def process_results(doc, results):
    said = results[0]
    return {"length": len(said), "vowels": sum(letter in "aeiou" for letter in said)}
"""


def spec(**settings) -> EvaluateSpec:
    return EvaluateSpec.model_validate({"benchmarks": WORLD, "batch_size": 8} | settings)


@pytest.fixture(scope="module")
def lm(tiny):
    return evaluate.open_model(tiny, spec())


@pytest.fixture
def mine(tmp_path):
    """A user's own task: a YAML file with a helper beside it."""
    (tmp_path / "mine.yaml").write_text(TASK.replace("FOLDER", str(tmp_path)))
    (tmp_path / "helper.py").write_text(HELPER)
    rows = [{"question": f"Say {n} words.", "answer": "none"} for n in range(6)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "mine.yaml"


def score(lm, name, **settings):
    return evaluate.score(lm, benchmarks.find(str(name)), spec(**settings))


def harness(lm, task: str, **options) -> dict[str, Any]:
    """What lm-eval's own entry point says of a task file."""
    simple: Any = lm_eval.simple_evaluate
    results = simple(
        model=lm,
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=10,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        **options,
    )
    return next(iter(results["results"].values()))


@pytest.mark.parametrize("name", WORLD)
def test_score_and_error_are_lm_evals_own(name, lm):
    found = score(lm, name, limit=24)
    task = benchmarks.find(name).tasks[0]
    subset = sorted(evaluate._first(generate.ITEMS, 24).tolist())
    expected = harness(lm, task, samples={name: subset})
    assert found.scores
    for entry in found.scores:
        metric, _, filter_name = entry.metric.partition(",")
        key = f"{metric},{filter_name or 'none'}"
        assert entry.value == expected[key]
        error = expected[key.replace(",", "_stderr,")]
        assert entry.stderr == pytest.approx(error)
        assert entry.n == 24


def test_primary_metric_is_the_benchmarks(lm):
    found = score(lm, "world_continuation", limit=4)
    assert {entry.metric: entry.primary for entry in found.scores} == {
        "acc": True, "acc_norm": False,
    }  # fmt: skip


def test_every_item_is_scored_without_a_limit(lm):
    found = score(lm, "world_choice")
    assert found.scores[0].n == len(set(found.items["item"])) == generate.ITEMS
    assert 0.1 < found.scores[0].value < 0.4, "an untrained model guesses among four"


def test_items_average_to_the_score_and_are_named_alike_each_time(lm):
    first, second = (score(lm, "world_continuation", limit=10) for _ in range(2))
    assert first.items.equals(second.items)
    for entry in first.scores:
        mine = first.items[first.items.metric == entry.metric]
        assert mine.value.mean() == pytest.approx(entry.value)
        assert len(set(mine["item"])) == 10


def test_larger_limit_keeps_the_items_of_the_smaller_one(lm):
    few, many = (score(lm, "world_choice", limit=n).items for n in (5, 12))
    both = few.merge(many, on=["item", "metric"], suffixes=("_few", "_many"))
    assert len(both) == 5
    assert np.array_equal(both.value_few, both.value_many)


def test_subset_is_drawn_and_not_the_first_items():
    drawn = evaluate._first(400, 20)
    assert len(set(drawn.tolist())) == 20
    assert sorted(drawn.tolist()) != list(range(20))
    assert max(drawn) > 200
    assert np.array_equal(evaluate._first(400, 30)[:20], drawn)
    assert len(evaluate._first(7, 20)) == 7


def test_scores_do_not_hang_on_what_was_drawn_before(lm):
    import random

    first = score(lm, "world_instruction", limit=6)
    random.seed(99)
    np.random.seed(99)
    assert score(lm, "world_instruction", limit=6).items.equals(first.items)


def test_chat_template_is_used_unless_told_otherwise(lm):
    default, templated, plain = (
        score(lm, "world_choice", limit=40, **settings).items.value
        for settings in ({}, {"chat_template": True}, {"chat_template": False})
    )
    assert default.equals(templated)
    assert not default.equals(plain)


def test_task_of_the_user_is_a_benchmark(lm, mine):
    found = score(lm, mine)
    length, vowels = found.scores
    assert (length.metric, length.primary, length.higher_is_better) == ("length", True, False)
    assert (vowels.metric, vowels.primary, vowels.higher_is_better) == ("vowels", False, True)
    assert length.n == 6
    expected = harness(lm, str(mine))
    assert length.value == expected["length,none"]
    assert length.stderr == pytest.approx(expected["length_stderr,none"])


def test_error_in_a_users_task_comes_through(lm, mine):
    (mine.parent / "helper.py").write_text("def process_results(doc, results):\n    1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        score(lm, mine)


@pytest.mark.parametrize(
    "text",
    ["task: [", TASK.replace("FOLDER", "/nowhere")],
    ids=["no YAML", "items that are not there"],
)
def test_task_that_cannot_be_loaded_is_unavailable_by_name(text, lm, mine):
    mine.write_text(text)
    with pytest.raises(EvaluationUnavailable, match="benchmark 'mine'"):
        score(lm, mine)


def test_evaluation_in_bfloat16_leaves_the_weights_of_others_alone(tiny):
    half = tiny._replace(model=copy.deepcopy(tiny.model))
    before = score(evaluate.open_model(tiny, spec()), "world_choice", limit=8)
    score(evaluate.open_model(half, spec(dtype="bfloat16")), "world_choice", limit=8)
    after = score(evaluate.open_model(tiny, spec()), "world_choice", limit=8)
    assert after.items.equals(before.items)


@pytest.fixture(scope="module")
def roomy(tiny):
    """The tiny model with room for the real benchmarks' prompts, which it reads byte by byte."""
    model = copy.deepcopy(tiny.model)
    model.config.max_position_embeddings = 6000
    return evaluate.open_model(tiny._replace(model=model), spec(batch_size=2))


@pytest.mark.parametrize(
    ("name", "items", "metric", "shots"),
    [
        ("arc", 4, "acc_norm", 0),
        ("hellaswag", 2, "acc_norm", 0),
        ("gsm8k", 2, "exact_match,flexible-extract", 5),
        ("ifeval", 2, "average", 0),
    ],
)
def test_stock_benchmark_runs_on_local_items(
    name, items, metric, shots, roomy, shared_data, monkeypatch
):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(shared_data / "nltk_data")])
    local = {"data_dir": str(shared_data / "eval"), "limit": 2, "batch_size": 2}
    assert benchmarks.missing(benchmarks.find(name), spec(**local)) is None
    found = score(roomy, name, **local)
    (primary,) = [entry for entry in found.scores if entry.primary]
    assert (primary.metric, primary.n) == (metric, items)
    assert set(found.settings["shots"].values()) == {shots}
    assert 0 <= primary.value <= 1
    assert found.items[found.items.metric == metric].value.mean() == pytest.approx(primary.value)


def test_arc_is_the_unweighted_mean_of_easy_and_challenge(roomy, shared_data):
    local = {"data_dir": str(shared_data / "eval"), "limit": 3, "batch_size": 2}
    found = score(roomy, "arc", **local)
    (primary,) = [entry for entry in found.scores if entry.primary]
    assert found.settings["n"] == {"arc_easy": 3, "arc_challenge": 3}
    assert primary.n == 6
    assert (primary.value * 6) % 1 == pytest.approx(0, abs=1e-9)
