"""lm-eval for real on the tiny model: our numbers are its numbers, with an error and items."""

import copy
import json
import sys
from types import SimpleNamespace
from typing import Any

import lm_eval
import numpy as np
import pandas as pd
import pytest
import torch
from lm_eval.tasks import TaskManager

from trainers import files
from trainers.evaluate import harness as evaluate
from trainers.evaluate import scores
from trainers.evaluate.open_model import open_model
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.result import Score
from trainers.tasks import benchmarks, tasks
from trainers.tasks.task_files import EvaluationUnavailable
from trainers.world import generate

COMPANIONS = {
    "choice_probability", "choice_margin", "solution_bits_per_byte", "answer_bits_per_byte",
    "target_bits_per_byte",
}  # fmt: skip
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
    return open_model(tiny, spec())


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
    subset = sorted(tasks.first(generate.ITEMS, 24).tolist())
    expected = harness(lm, task, samples={name: subset})
    theirs = [entry for entry in found.scores if entry.metric not in COMPANIONS]
    assert theirs
    for entry in theirs:
        metric, _, filter_name = entry.metric.partition(",")
        key = f"{metric},{filter_name or 'none'}"
        assert entry.value == expected[key]
        error = expected[key.replace(",", "_stderr,")]
        assert entry.stderr == pytest.approx(error) if error else (entry.stderr or 0) > 0
        assert entry.n == 24


def test_primary_metric_is_the_benchmarks(lm):
    found = score(lm, "world_continuation", limit=4)
    assert [entry.metric for entry in found.scores if entry.primary] == ["acc"]
    assert {entry.metric for entry in found.scores} > {"acc_norm", "choice_probability"}


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
    few, many = (items[items.metric == "acc"] for items in (few, many))
    both = few.merge(many, on="item", suffixes=("_few", "_many"))
    assert len(both) == 5
    assert np.array_equal(both.value_few, both.value_many)


def test_subset_is_drawn_and_not_the_first_items():
    drawn = tasks.first(400, 20)
    assert len(set(drawn.tolist())) == 20
    assert sorted(drawn.tolist()) != list(range(20))
    assert max(drawn) > 200
    assert np.array_equal(tasks.first(400, 30)[:20], drawn)
    assert len(tasks.first(7, 20)) == 7


def test_scores_do_not_hang_on_what_was_drawn_before(lm):
    import random

    first = score(lm, "world_instruction", limit=6)
    random.seed(99)
    np.random.seed(99)
    assert score(lm, "world_instruction", limit=6).items.equals(first.items)


@pytest.fixture
def loads(monkeypatch):
    """The benchmarks whose requests are made anew, from an empty process on."""
    made: list[str] = []
    load = tasks.load

    def counted(benchmark, spec):
        made.append(benchmark.name)
        return load(benchmark, spec)

    monkeypatch.setattr(tasks, "load", counted)
    monkeypatch.setattr(tasks, "_kept", {})
    return made


@pytest.mark.parametrize("name", ["world_choice", "world_arithmetic", "mine"])
def test_next_model_is_asked_the_same_requests(name, lm, louder, mine, loads):
    name = mine if name == "mine" else name
    score(lm, name, limit=5)
    found = score(louder, name, limit=5)
    assert len(loads) == 1
    tasks._kept.clear()
    alone = score(louder, name, limit=5)
    assert len(loads) == 2
    assert (found.scores, found.settings) == (alone.scores, alone.settings)
    assert found.items.equals(alone.items)
    assert not found.items.equals(score(lm, name, limit=5).items)


@pytest.fixture(scope="module")
def louder(tiny):
    """Another model with the same tokenizer, which gives other answers."""
    model = copy.deepcopy(tiny.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return open_model(tiny._replace(model=model), spec())


def test_requests_are_made_anew_where_they_would_differ(tiny, lm, mine, loads):
    first = score(lm, mine)
    with open(mine.parent / "items.jsonl", "a") as file:
        file.write(json.dumps({"question": "Say 7 words.", "answer": "none"}) + "\n")
    assert len(score(lm, mine).items) == len(first.items) * 7 // 6
    tokenizer = copy.deepcopy(tiny.tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant", "helper")
    other = open_model(tiny._replace(tokenizer=tokenizer), spec())
    for chat_template in (True, False):
        score(other, mine, chat_template=chat_template)
        score(lm, mine, chat_template=chat_template)
    assert len(loads) == 5


def test_no_more_prompts_are_kept_than_fit(lm, mine, loads, monkeypatch):
    monkeypatch.setattr(tasks, "KEPT_CHARACTERS", 100)
    for _ in range(2):
        score(lm, "world_choice", limit=5)
        score(lm, mine)
    assert loads == ["world_choice", "mine"] * 2


def test_vllm_takes_what_is_free_beside_the_model(tiny, monkeypatch):
    """Which it would refuse to start beside, where the model holds a tenth of the GPU."""
    given: dict[str, Any] = {}
    theirs = SimpleNamespace(VLLM=lambda **options: given.update(options))
    monkeypatch.setitem(sys.modules, "lm_eval.models.vllm_causallms", theirs)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (60, 80))
    open_model(tiny, EvaluateSpec(benchmarks=["arc"], backend="vllm"))
    assert given["gpu_memory_utilization"] == pytest.approx(0.9 * 60 / 80)


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
    with pytest.raises(EvaluationUnavailable, match=r"benchmark .mine.|task file .*mine.yaml"):
        score(lm, mine)


def test_evaluation_in_bfloat16_leaves_the_weights_of_others_alone(tiny):
    half = tiny._replace(model=copy.deepcopy(tiny.model))
    before = score(open_model(tiny, spec()), "world_choice", limit=8)
    score(open_model(half, spec(dtype="bfloat16")), "world_choice", limit=8)
    after = score(open_model(tiny, spec()), "world_choice", limit=8)
    assert after.items.equals(before.items)


@pytest.fixture(scope="module")
def roomy(tiny):
    """The tiny model with room for the real benchmarks' prompts, which it reads byte by byte."""
    model = copy.deepcopy(tiny.model)
    model.config.max_position_embeddings = 6000
    return open_model(tiny._replace(model=model), spec(batch_size=2))


@pytest.mark.parametrize(
    ("name", "items", "metric", "shots"),
    [
        ("arc", 4, "acc_norm", 0),
        ("hellaswag", 2, "acc_norm", 0),
        ("gsm8k", 2, "exact_match,flexible-extract", 5),
        ("ifeval", 2, "average", 0),
        ("piqa", 2, "acc_norm", 0),
        ("mmlu_pro", 2, "acc", 0),
        pytest.param("bbh", 54, "exact_match", 3, marks=pytest.mark.slow),
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
    beside = [entry for entry in found.scores if entry.metric in COMPANIONS]
    assert beside or name == "ifeval"
    assert all(entry.n == items and (entry.stderr or 0) > 0 for entry in beside)


def test_arc_is_the_unweighted_mean_of_easy_and_challenge(roomy, shared_data):
    local = {"data_dir": str(shared_data / "eval"), "limit": 3, "batch_size": 2}
    found = score(roomy, "arc", **local)
    (primary,) = [entry for entry in found.scores if entry.primary]
    assert found.settings["n"] == {"arc_easy": 3, "arc_challenge": 3}
    assert primary.n == 6
    assert (primary.value * 6) % 1 == pytest.approx(0, abs=1e-9)


def test_record_says_with_what_it_was_scored(lm):
    paper, plain = (
        score(lm, "world_choice", limit=6, preset=preset).settings
        for preset in ("paper", "lm_eval")
    )
    assert (paper["preset"], paper["chat_template"]) == ("paper", True)
    assert (plain["preset"], plain["chat_template"]) == ("lm_eval", False)
    assert paper["documents"] == plain["documents"]
    assert paper["prompts"] != plain["prompts"], "as rendered"
    assert paper["prompts"] == score(lm, "world_choice", limit=6).settings["prompts"]
    assert paper["documents"] != score(lm, "world_choice", limit=5).settings["documents"]


def test_record_tells_one_chat_template_from_another_where_prompts_have_it(lm, monkeypatch):
    def recorded(**settings) -> str | None:
        return score(lm, "world_choice", limit=2, **settings).settings["template"]

    own, own_plain = recorded(), recorded(chat_template=False)
    monkeypatch.setattr(lm.tokenizer, "chat_template", "{{ messages[0].content }}")
    assert own is not None and recorded() not in (own, None)
    assert own_plain is None and recorded(chat_template=False) is None


def test_preset_lm_eval_is_what_lm_eval_does_by_itself(lm):
    found = score(lm, "world_continuation", preset="lm_eval")
    simple: Any = lm_eval.simple_evaluate
    task = benchmarks.find("world_continuation").tasks[0]
    alone = simple(
        model=lm, tasks=[task], task_manager=TaskManager(include_defaults=False), bootstrap_iters=10
    )["results"]["world_continuation"]
    assert {e.metric: e.value for e in found.scores if e.metric not in COMPANIONS} == {
        "acc": alone["acc,none"], "acc_norm": alone["acc_norm,none"],
    }  # fmt: skip


def test_margin_is_above_zero_where_acc_norm_counts_the_item(lm):
    items = score(lm, "world_continuation").items.pivot(
        index="item", columns="metric", values="value"
    )
    assert ((items.choice_margin > 0) == (items.acc_norm == 1)).all()
    assert items.acc_norm.nunique() == 2, "some are right and some are wrong"
    assert items.choice_probability.between(0, 1).all()


def test_bits_per_byte_of_a_gold_solution_are_the_models_own(lm):
    """Against the model's cross entropy, taken here by hand. lm-eval counts the white space that
    ends a prompt with what follows."""
    import torch

    found = score(lm, "world_arithmetic", limit=3)
    values = found.items[found.items.metric == "solution_bits_per_byte"].value.tolist()
    (entry,) = [e for e in found.scores if e.metric == "solution_bits_per_byte"]
    assert (entry.higher_is_better, entry.primary) == (False, False)
    items = generate.items("arithmetic")
    for place, value in zip(sorted(tasks.first(len(items), 3).tolist()), values, strict=True):
        turn = [{"role": "user", "content": items[place]["prompt"]}]
        prompt = lm.apply_chat_template(turn)
        start = lm.tok_encode(prompt.rstrip())
        solution = lm.tok_encode(prompt + items[place]["answer"])[len(start) :]
        with torch.inference_mode():
            logits = lm.model(torch.tensor([start + solution], device=lm.device)).logits[0]
        told = logits[len(start) - 1 : -1].float().log_softmax(-1).cpu()
        nats = -told[torch.arange(len(solution)), torch.tensor(solution)].sum().item()
        bits = nats / np.log(2) / len(items[place]["answer"].encode())
        assert value == pytest.approx(bits, rel=1e-4)


def test_document_that_occurs_twice_is_two_items(lm, mine):
    rows = (mine.parent / "items.jsonl").read_text()
    (mine.parent / "items.jsonl").write_text(rows + rows.splitlines()[0] + "\n")
    names = score(lm, mine).items.query("metric == 'length'")["item"]
    assert len(names) == len(set(names)) == 7


def test_record_is_read_back_as_it_was_written(lm, tmp_path):
    found = score(lm, "world_choice", limit=4)
    place = tmp_path / "scores" / "mark.json"
    scores.write(place, "world_choice", "mark", found, 1.5)
    record = files.read_json(place)
    assert [Score(**entry) for entry in record["scores"]] == found.scores
    assert (record["fingerprint"], record["eval_seconds"]) == ("mark", 1.5)
    assert record["settings"] == found.settings
    assert pd.read_parquet(place.with_suffix(".parquet")).equals(found.items)
    assert {path.name for path in place.parent.iterdir()} == {"mark.json", "mark.parquet"}
