"""The miniature world: the same rows every time, sound items, and none of them trained on."""

import logging
import time
from pathlib import Path

import pytest

from trainers.world import generate, tasks
from trainers.world.facts import PROPERTIES

WORLD = Path(tasks.__file__).parent
FORMS = list(generate.FORMS)


@pytest.mark.parametrize("split", ["pretrain", "sft"])
def test_rows_depend_on_the_seed_alone(split):
    assert generate.rows(split, 50, 1) == generate.rows(split, 50, 1)
    assert generate.rows(split, 50, 1) != generate.rows(split, 50, 2)
    assert generate.rows(split, 80, 1)[:50] == generate.rows(split, 50, 1)


def test_rows_are_made_fast():
    began = time.process_time()
    generate.rows("pretrain", 10_000, 0)
    assert time.process_time() - began < 2


def test_conversations_have_one_question_and_one_answer():
    for row in generate.rows("sft", 200, 0):
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert all(message["content"] for message in row["messages"])


@pytest.mark.parametrize("form", FORMS)
def test_a_benchmark_has_hundreds_of_different_items_always_the_same(form):
    items = generate.items(form)
    assert items == generate.items(form)
    assert len({item["prompt"] for item in items}) >= 300


@pytest.fixture(scope="module")
def trained_on() -> set[str]:
    """What is asked in many conversations, and the lines of many texts."""
    asked = {row["messages"][0]["content"] for row in generate.rows("sft", 10_000, 3)}
    texts = [row["text"] for row in generate.rows("pretrain", 5_000, 3)]
    return asked | {line for text in texts for line in text.split("\n")}


@pytest.mark.parametrize("form", FORMS)
def test_no_item_is_in_the_training_rows(form, trained_on):
    assert not trained_on & {item["prompt"] for item in generate.items(form)}


@pytest.mark.parametrize("form", FORMS)
def test_what_an_item_combines_is_never_drawn_for_training(form):
    drawn = {generate.draw(form, generate.Random(i), held=False).combination for i in range(3000)}
    items = {generate.draw(form, generate.Random(i), held=True).combination for i in range(1000)}
    assert not drawn & items


def test_a_choice_has_one_right_option():
    for item in generate.items("choice"):
        asked = item["prompt"].removeprefix("Which is ").split(":")[0]
        of = next(table for table in PROPERTIES if asked in table.values())
        right = [o for o in item["choices"] if of[o.removeprefix("the ")] == asked]
        assert right == [item["choices"][item["label"]]] == [item["answer"]]


def test_the_steps_of_arithmetic_are_true_and_end_in_the_total():
    for item in generate.items("arithmetic"):
        *steps, last = item["answer"].split("\n")
        for step in steps:
            left, right = step.split("=")
            assert eval(left) == int(right) >= 0
        assert last == f"#### {item['total']}"


def test_a_continuation_has_four_different_endings():
    for item in generate.items("continuation"):
        assert len(set(item["choices"])) == 4
        assert item["choices"][item["label"]] == item["answer"]


def test_the_written_answer_obeys_every_instruction():
    for item in generate.items("instruction"):
        assert tasks.obeys(item["answer"], item["kind"], item["words"], item["count"]), item


def test_the_rejected_answer_is_a_wrong_one():
    for row in generate.rows("preferences", 400, 0):
        ((chosen,), (rejected,)) = row["chosen"], row["rejected"]
        assert chosen["content"] != rejected["content"]
        asked, said = row["prompt"][0]["content"], rejected["content"]
        if asked.startswith("Which is "):
            value = asked.removeprefix("Which is ").split(":")[0]
            of = next(table for table in PROPERTIES if value in table.values())
            assert of[said.removeprefix("the ")] != value
        if "####" in said:
            assert said.split("#### ")[1] != said.split("\n")[-2].split("=")[1]


def test_preferences_ask_nothing_that_the_benchmarks_ask():
    tested = {item["prompt"] for form in FORMS for item in generate.items(form)}
    asked = {row["prompt"][0]["content"] for row in generate.rows("preferences", 2000, 0)}
    assert not asked & tested


@pytest.mark.parametrize(
    ("response", "kind", "words", "count"),
    [
        ("the pear the pear", "repeat", ["pear"], 3),
        ("the pear the pear the pear the pear", "repeat", ["pear"], 3),
        ("the pear the boat", "order", ["boat", "pear"], 0),
        ("the boat", "order", ["boat", "pear"], 0),
        ("Here is Mara with the pear today.", "ends_with", ["Mara", "pear"], 0),
        ("Here is Ben with the pear.", "ends_with", ["Mara", "pear"], 0),
        ("Mara", "ends_with", ["Mara", "pear"], 0),
        ("the pear, the saw", "list", ["fruit", "tool", "toy"], 0),
        ("the saw, the pear, the ball", "list", ["fruit", "tool", "toy"], 0),
        ("the pear, the saw, the cloud", "list", ["fruit", "tool", "toy"], 0),
        ("the pear, the saw", "avoid", ["fruit", "tool", "pear"], 0),
        ("the plum", "avoid", ["fruit", "tool", "pear"], 0),
        ("", "avoid", ["fruit", "tool", "pear"], 0),
    ],
)
def test_disobedience_is_seen(response, kind, words, count):
    assert not tasks.obeys(response, kind, words, count)


def test_an_answer_of_one_instruction_seldom_obeys_another():
    items = generate.items("instruction")
    crossed = [
        tasks.obeys(other["answer"], item["kind"], item["words"], item["count"])
        for item, other in zip(items, items[1:] + items[:1], strict=True)
    ]
    assert sum(crossed) <= len(crossed) * 0.02


@pytest.mark.parametrize("form", FORMS)
def test_lm_eval_loads_the_task_and_asks_its_items(form):
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False)
    loaded = manager.load(str(WORLD / f"world_{form}.yaml"))
    (task,) = loaded["tasks"].values()
    docs = list(task.test_docs())
    assert [task.doc_to_text(doc) for doc in docs] == [i["prompt"] for i in generate.items(form)]
