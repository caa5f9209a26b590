"""What a grid needs from the hub, known before anything is asked."""

import pytest

from sweep.resolve import resolve
from trainers import hub
from trainers.specs.data import DataSpec, Model
from trainers.specs.evaluation import EvaluateAt, EvaluateSpec
from trainers.tasks import benchmarks


def evaluation(*names, **settings) -> EvaluateSpec:
    return EvaluateSpec(benchmarks=list(names), **settings)


def needs(model="tiny", data=("world:sft",), names=("world_choice",)) -> hub.Needs:
    return hub.needs(
        [Model(name=model)], [DataSpec(name=name) for name in data], evaluation(*names)
    )


def test_tiny_model_on_the_world_needs_nothing():
    assert needs().empty
    assert hub.fetch(needs()) == {}


def test_only_what_is_on_the_hub_is_needed(tmp_path):
    some = needs("owner/name", ["world:sft", "a/b", "a/b", str(tmp_path / "rows.jsonl")])
    assert [model.name for model in some.models] == ["owner/name"]
    assert [data.name for data in some.data] == ["a/b"]
    assert some.evaluate is None


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("arc", ["allenai/ai2_arc"]),
        ("gsm8k", ["openai/gsm8k"]),
        ("hellaswag", ["Rowan/hellaswag"]),
        ("ifeval", ["google/IFEval"]),
        ("world_choice", []),
    ],
)
def test_hub_data_of_a_benchmark_is_read_from_its_task_files(name, data):
    found = benchmarks.find(name)
    assert hub.hub_data(found, evaluation(name)) == data
    assert hub.hub_data(found, evaluation(name, data_dir="items")) == []


def test_task_file_of_the_user_may_name_hub_data_itself_or_by_include(tmp_path):
    (tmp_path / "first.yaml").write_text("task: first\ndataset_path: owner/items\n")
    (tmp_path / "second.yaml").write_text("include: first.yaml\ntask: second\n")
    (tmp_path / "local.yaml").write_text("task: local\ndataset_path: json\n")
    found = [
        hub.hub_data(benchmarks.find(str(tmp_path / f"{name}.yaml")), evaluation(name))
        for name in ("first", "second", "local")
    ]
    assert found == [["owner/items"], ["owner/items"], []]


def test_pinned_data_is_that_of_the_commit():
    data = DataSpec(name="a/b", revision="v1", examples=5)
    commits = {"data:a/b@v1": "c" * 40, "data:a/b@main": "d" * 40}
    assert hub.pinned(data, commits) == data.model_copy(update={"revision": "c" * 40})
    assert hub.pinned(DataSpec(name="world:sft"), commits) == DataSpec(name="world:sft")


def test_items_are_read_at_another_commit_than_the_newest_only_where_that_is_said():
    asked = evaluation("hellaswag", limit=3)
    name, commit = "Rowan/hellaswag", "c" * 40
    assert hub.pinned_items(asked, {f"benchmark:{name}": commit}) is asked
    pinned = hub.pinned_items(asked, {f"items:{name}": commit})
    assert isinstance(pinned, EvaluateAt)
    assert (pinned.commits, pinned.limit) == ({name: commit}, 3)


def test_commits_that_trials_have_seen_are_kept_but_where_the_grid_names_another(load, small):
    grid = load(small, "model=a/b", "stages.sft.data.name=c/d")
    seen = {"model:a/b": "a" * 40, "benchmark:e/f": "e" * 40, "c/d:train[:24]": "d" * 40}
    held = {"model:a/b": "a" * 40, "benchmark:e/f": "e" * 40, "data:c/d@main": "d" * 40}
    assert resolve._held(grid, seen | {"g.jsonl": "local", "model:x/y": "b" * 40}) == held
    named = load(small, "model={name: a/b, revision: v2}", "stages.sft.data.name=c/d")
    assert "model:a/b" not in resolve._held(named, seen)
