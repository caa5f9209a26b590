"""Groups of tasks: their members, and one score weighted as the group says."""

import json

import pytest

from trainers.evaluate import harness
from trainers.evaluate.open_model import open_model
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks, metrics, task_groups, task_index
from trainers.tasks.task_files import TaskFileError

MEMBER = """\
task: NAME
dataset_path: json
dataset_kwargs: {data_files: {test: NAME.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{q}} ->"
doc_to_choice: choices
doc_to_target: gold
metric_list: [{metric: acc}]
"""


@pytest.fixture
def folder(tmp_path):
    """Two tasks of 3 and 9 items."""
    for name, items in (("few", 3), ("many", 9)):
        (tmp_path / f"{name}.yaml").write_text(MEMBER.replace("NAME", name))
        rows = [
            {"q": f"{name} {n}", "choices": ["a", "b", "cc"], "gold": n % 3} for n in range(items)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "a_grid.yaml").write_text("name: no task\n")
    return tmp_path


def group(folder, members: str, aggregate: str = "{metric: acc, weight_by_size: true}") -> str:
    path = folder / "both.yaml"
    path.write_text(f"group: both\ntask: {members}\naggregate_metric_list: [{aggregate}]\n")
    return str(path)


def inside(folder) -> str:
    """The same members, defined in the group's own file."""
    members = []
    for name in ("few", "many"):
        lines = MEMBER.replace("NAME", name).splitlines()
        members.append("\n".join(["", f"  - {lines[0]}", *(f"    {line}" for line in lines[1:])]))
    return "".join(members)


@pytest.fixture(scope="module")
def lm(tiny):
    return open_model(tiny, EvaluateSpec(benchmarks=[]))


def score(lm, name, **settings):
    found = harness.score(lm, benchmarks.find(name), EvaluateSpec(benchmarks=[name], **settings))
    return {entry.metric: entry for entry in found.scores}, found


@pytest.mark.parametrize("by_size", [True, False])
def test_group_is_scored_as_it_weighs_its_tasks(by_size, folder, lm):
    few, _ = score(lm, str(folder / "few.yaml"))
    many, _ = score(lm, str(folder / "many.yaml"))
    weights = (3 / 12, 9 / 12) if by_size else (1 / 2, 1 / 2)
    expected = weights[0] * few["acc"].value + weights[1] * many["acc"].value
    aggregate = f"{{metric: acc, weight_by_size: {str(by_size).lower()}}}"
    for members in ("[few, many]", inside(folder)):
        found, evaluation = score(lm, group(folder, members, aggregate))
        assert found["acc"].value == pytest.approx(expected)
        assert (found["acc"].primary, found["acc"].n) == (True, 12)
        assert found["acc"].stderr is not None
        items = evaluation.items[evaluation.items.metric == "acc"]
        assert items.value.mean() == pytest.approx(expected)


def test_metric_that_few_tasks_have_is_told_before_and_after(folder, lm):
    """`leaderboard` is such a group: acc is of 1 of its 39 tasks."""
    (folder / "few.yaml").write_text(MEMBER.replace("NAME", "few").replace("acc}", "acc_norm}"))
    name = group(folder, "[few, many]")
    said = metrics.partial(benchmarks.find(name))
    assert said is not None and said.startswith("both: acc, its score, is of 1 of its 2 tasks")
    with pytest.warns(UserWarning, match="is of 1 of its 2 tasks"):
        _, evaluation = score(lm, name)
    assert evaluation.settings["partial"] == said
    assert metrics.partial(benchmarks.find("mmlu")) is None


def test_limit_holds_for_each_task_of_a_group(folder, lm):
    found, _ = score(lm, group(folder, "[few, many]"), limit=2)
    assert found["acc"].n == 4


def test_members_of_a_group_are_its_leaves(folder):
    path = folder / "both.yaml"
    group(folder, "[few, {task: many, description: mine}]")
    leaves = list(task_groups.leaves(path))
    assert [(leaf["task"], leaf.get("description")) for leaf in leaves] == [
        ("few", None), ("many", "mine")
    ]  # fmt: skip


def test_stock_group_has_all_its_leaves_by_way_of_groups_and_tags():
    path = task_index.folder() / benchmarks.find("mmlu").tasks[0]
    names = [leaf["task"] for leaf in task_groups.leaves(path)]
    assert len(names) == len(set(names)) == 57
    assert task_groups.aggregates(path) == [task_groups.Aggregate("acc", None, True)]


def test_fingerprint_of_a_group_changes_with_a_members_items(folder):
    name = group(folder, "[few, many]")
    spec = EvaluateSpec(benchmarks=[name])
    before = benchmarks.fingerprint(benchmarks.find(name), spec)
    (folder / "few.jsonl").write_text('{"q": "x", "choices": ["a", "b"], "gold": 0}\n')
    assert benchmarks.fingerprint(benchmarks.find(name), spec) != before


@pytest.mark.parametrize(
    ("members", "aggregate", "said"),
    [
        ("[few, manny]", "{metric: acc}", "member 'manny' is neither"),
        ("[few]", "{metric: f1}", "no task of the group has the metric 'f1'; its first has acc"),
        ("[few]", "", "has no aggregate_metric_list"),
        ("[both]", "{metric: acc}", "neither"),
    ],
)
def test_group_that_cannot_be_scored_is_refused(members, aggregate, said, folder):
    problem = benchmarks.problem(group(folder, members, aggregate))
    assert said in str(problem)


def test_leaf_that_is_not_there_is_an_error(folder):
    name = group(folder, "[nowhere_to_be_found]")
    with pytest.raises(TaskFileError, match="nowhere_to_be_found"):
        list(task_groups.leaves(folder / name))
