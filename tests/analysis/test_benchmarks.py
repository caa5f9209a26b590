import pytest

from analysis.benchmarks import TASKS, task
from trainers.tasks.registry import BENCHMARKS


@pytest.mark.parametrize(
    ("benchmark", "kind"),
    [("arc", "reasoning"), ("gsm8k", "reasoning"), ("hellaswag", "pattern"), ("ifeval", "pattern")],
)
def test_the_papers_four_benchmarks_have_its_types(benchmark: str, kind: str) -> None:
    assert task(benchmark).task_type == kind


def test_an_unknown_benchmark_has_no_type_and_no_chance_level() -> None:
    assert task("my_task")[2:4] == ("other", None)


def test_what_a_guess_earns_from_a_grader_of_any_kind_is_not_known() -> None:
    assert task("heldout_reward").chance is None


def test_every_task_is_filed_under_its_name() -> None:
    assert all(name == one.benchmark for name, one in TASKS.items())


def test_every_benchmark_that_a_grid_may_name_has_a_label_and_a_type() -> None:
    assert set(BENCHMARKS) <= set(TASKS)
