"""Two Ray nodes that share nothing but an object store: moto's S3 server, through s3fs."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults import stores
from tests.faults.runs import Run, judged
from tests.faults.stores import SECRETS, Bucket

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("moto") is None, reason="needs moto and s3fs: pip install '.[dev]'"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may hide folders from a node"),
]


class Afar(NamedTuple):
    """A run on such nodes that has ended, and the same command from another folder."""

    run: Run
    output: str
    other: Run
    again: str
    there: dict[str, bytes]
    """What the store holds."""
    nodes: dict[str, bytes]
    """What the nodes and Ray have left."""
    prepared: list[int]
    """Folders of prepared data on each node."""


def contents(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def afar(tmp_path_factory) -> Iterator[Afar]:
    folder = tmp_path_factory.mktemp("afar")
    run, other = Run(folder / "driver"), Run(folder / "another driver")
    with stores.bucket(folder) as bucket:
        with stores.cluster(run.folder, bucket) as nodes:
            stores.joins(run, nodes, bucket)
            mounts = [Path(f"/proc/{one.pid}/mountinfo").read_text() for one in nodes.nodes]
            assert all(f" {run.folder} " in text for text in mounts), "the driver's folder is seen"
            output = run.end()
            prepared = [
                len(list(folder.glob("cache/stores/*/data/*/counts.json"))) for folder in nodes.kept
            ]
            left = contents(nodes.place)
        other.place = Bucket.URL
        other.environment = bucket.environment
        again = other.end()
        there = {path: bucket.files.cat_file(path) for path in bucket.files.find("sweeps")}
    yield Afar(run, output, other, again, there, left, prepared)


def test_table_is_that_of_a_run_in_one_folder(afar, tmp_path):
    alone = Run(tmp_path / "alone", options=("--local",))
    alone.end()
    assert judged(afar.run.table(), alone.table()) == (0, 0, 0.0)
    assert judged(afar.other.table(), alone.table()) == (0, 0, 0.0)


def test_both_nodes_took_part_and_prepared_nothing_themselves(afar):
    mine = len(list((afar.run.path / "data").glob("*/counts.json")))
    assert afar.prepared == [mine, mine]
    assert set(afar.run.starts().values()) == {1}


def test_another_folder_finds_nothing_to_do(afar):
    assert "6 of 6 models done, 0 to go" in afar.again
    assert "Ray dashboard" not in afar.again
    assert set(afar.other.starts().values()) == {1}


def test_store_has_records_and_weights_and_no_checkpoint(afar):
    names = {path.removeprefix("sweeps/runs/run/") for path in afar.there}
    assert {"plan.csv", "manifest.json", "results.csv", "events.jsonl"} <= names
    assert "report/index.html" in names
    weights = {name.split("/")[1] for name in names if name.endswith("model/model.safetensors")}
    trained = {name.split("/")[1] for name in names if name.endswith("/train.json")}
    assert len(trained) == 6
    assert weights == {name for name in trained if not name.startswith("base")}
    assert not [name for name in names if "checkpoints" in name]
    assert "driver.json" not in names, "the run is free again"


def test_nothing_of_a_trial_stays_on_its_node(afar):
    assert not [name for name in afar.nodes if "/room-" in name]


def test_keys_are_nowhere(afar):
    places = {
        "driver": contents(afar.run.folder),
        "another driver": contents(afar.other.folder),
        "store": afar.there,
        "nodes": afar.nodes,
    }
    assert all(len(found) > 20 for found in places.values())
    leaks = [
        f"{place}: {name}: {key}"
        for place, found in places.items()
        for name, content in found.items()
        for key, secret in SECRETS.items()
        if secret.encode() in content
    ]
    assert not leaks
    assert not any(secret in afar.output + afar.again for secret in SECRETS.values())


def test_bucket_that_is_not_there_and_server_that_does_not_answer(tmp_path):
    run = Run(tmp_path / "driver", options=("--local",))
    run.place = "s3://none/runs"
    with stores.bucket(tmp_path) as bucket:
        run.environment = bucket.environment
        said = run.end(code=4, seconds=60)
        assert "s3://none/runs/run: " in said and "Traceback" not in said
    said = run.end(code=4, seconds=100)
    assert "s3://none/runs/run: " in said and "Traceback" not in said
    assert not run.runs.exists()
