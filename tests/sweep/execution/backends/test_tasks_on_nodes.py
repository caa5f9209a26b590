"""Tasks that the driver sends to a certain node of a real cluster of two."""

import json
import os
import subprocess
import sys

import pytest

from tests.faults.clusters import node
from tests.faults.runs import ROOT

pytestmark = pytest.mark.slow

DRIVER = """
import json, subprocess, sys
import psutil, ray
from sweep.execution.backends import ray_cluster, ray_tasks
from trainers.hub import Needs
from trainers.specs.data import Model

ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
said = {}
sleeps = subprocess.Popen(["sleep", "300"])
(other,) = (n["NodeID"] for n in ray.nodes() if n["NodeManagerAddress"] == "127.0.0.2")
created = psutil.Process(sleeps.pid).create_time()
ray_tasks.end_attempt({"node": other, "pid": sleeps.pid, "process_created": created})
said["ended"] = sleeps.wait(60)
model = Model(name="nobody/no-model")
try:
    ray_tasks.fetch_on_other_nodes(Needs(models=(model,), data=(), evaluate=None, offline=True))
except Exception as error:
    said["refused"] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What a driver on two nodes of this machine saw."""
    folder = tmp_path_factory.mktemp("nodes")
    with node(folder, "--head") as head:
        address = f"127.0.0.1:{head.port}"
        with node(folder, f"--address={address}", "127.0.0.2"):
            ended = subprocess.run(
                [sys.executable, "-c", DRIVER, address],
                env=os.environ | head.environment | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=200,
            )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_process_of_an_attempt_is_ended_on_its_node(said):
    assert said["ended"] < 0, "by a signal"


def test_what_another_node_cannot_fetch_is_told(said):
    assert said["refused"].startswith("CannotRun: on another node: ")
    assert "nobody/no-model" in said["refused"]
