"""What a grid needs from the hub, known before anything is asked."""

import pytest

from trainers import hub
from trainers.specs.data import DataSpec, Model
from trainers.specs.evaluation import EvaluateSpec
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
