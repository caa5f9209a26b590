"""Trials that lie on several Ray nodes: two of this machine, with one CPU each."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.faults import several_nodes, stores
from tests.faults.runs import Run, judged
from trainers import files

pytestmark = pytest.mark.slow

ROUNDING = 1e-4


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Run:
    """The grid in one process."""
    run = Run(tmp_path_factory.mktemp("alone"), options=("--local",))
    run.end()
    return run


@pytest.fixture(scope="module")
def spread(tmp_path_factory) -> Iterator[Run]:
    """Each trial on both of the two nodes that there are beside the head."""
    run = Run(tmp_path_factory.mktemp("spread"))
    with several_nodes.nodes(run, 2):
        run.end()
        yield run


def logs(run: Run) -> list[str]:
    return [file.read_text() for file in run.path.glob("trials/*/log.txt")]


def assert_same_table(run: Run, alone: Run) -> None:
    """But for the noise scale, a ratio of small differences."""
    tables = [one.table() for one in (run, alone)]
    noise = [name for name in tables[1].columns if name.startswith("noise_scale")]
    verdict = judged(*(table.drop(columns=noise) for table in tables))
    assert (verdict.lost, verdict.doubled) == (0, 0)
    assert verdict.difference < ROUNDING


def updates(run: Run) -> dict[str, dict[str, object]]:
    return {
        file.parents[1].name: load_file(file)
        for file in run.path.glob("trials/*/model/model.safetensors")
    }


def test_table_and_weights_are_those_of_one_process(spread, alone):
    assert_same_table(spread, alone)
    weights, expected = updates(spread), updates(alone)
    assert weights.keys() == expected.keys(), "the keys are the same"
    assert len(weights) == 5
    for trial, tensors in weights.items():
        for name, tensor in tensors.items():
            other = expected[trial][name]
            assert ((tensor - other) ** 2).sum() <= (ROUNDING**2) * (other**2).sum(), (trial, name)


def test_both_nodes_train_and_score_and_the_first_writes(spread):
    said = [text for text in logs(spread) if "also on 127.0.0." in text]
    assert len(said) == 5, "all but the model as it is, which trains nothing"
    assert set(spread.starts().values()) == {1}
    assert all(record["steps"] in (5, 40) for record in records(spread))


def records(run: Run) -> list[dict[str, int]]:
    read = (files.read_json(path) for path in run.path.glob("trials/[!b]*/train.json"))
    return [record for record in read if record]


def test_more_nodes_than_there_are_are_refused_in_a_sentence(spread):
    said = spread.end(
        "--set", "resources.nodes_per_trial=3", "--set", "resources.cpus_per_trial=3",
        "--set", "stages.second.steps=41", code=4,
    )  # fmt: skip
    assert "a trial asks for 1 CPUs and 0 GPUs on each of 3 nodes, and 2 of 3 have as much" in said
    assert "Traceback" not in said


def test_one_machine_and_one_process_are_refused_too(alone, tmp_path):
    run = Run(tmp_path / "one")
    said = run.end(*several_nodes.OVER_TWO_NODES, code=4)
    assert "on each of 2 nodes, and 1 of 1 have as much" in said
    said = run.end("--local", *several_nodes.OVER_TWO_NODES, code=4)
    assert "--local: resources.nodes_per_trial: 2" in said
    assert not run.runs.exists(), "nothing was written"


@pytest.mark.skipif(
    importlib.util.find_spec("moto") is None or os.geteuid() != 0,
    reason="needs moto, and root to hide folders from a node",
)
def test_nodes_need_share_no_folder(alone, tmp_path):
    run = Run(tmp_path / "driver")
    with stores.bucket(tmp_path) as bucket, stores.cluster(run.folder, bucket) as nodes:
        stores.joins(run, nodes, bucket)
        run.end(*several_nodes.OVER_TWO_NODES)
        left = [path for path in Path(nodes.place).rglob("room-*") if path.is_dir()]
    assert_same_table(run, alone)
    assert set(run.starts().values()) == {1}
    assert not left, "nothing of a trial stays on its node"
