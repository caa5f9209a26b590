"""The launch files in docs/launch: what they would start is what `sweep.run` takes."""

import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from sweep.gridfile import load
from trainers.processes import devices

ROOT = Path(__file__).parent.parent
LAUNCH = ROOT / "docs" / "launch"
QUANTITY = re.compile(r"^\d+(m|Ki|Mi|Gi|Ti)?$")


def accepted(command: list[str]) -> None:
    """`python -m sweep.run ...` as a launch file has it, planned here."""
    assert command[:3] == ["python", "-m", "sweep.run"]
    ended = subprocess.run(
        [sys.executable, *command[1:], "--dry-run"], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "optimizer steps" in ended.stdout


@pytest.mark.parametrize("name", ["sweep.sbatch", "cluster.sh"])
def test_script_is_bash(name):
    ended = subprocess.run(["bash", "-n", str(LAUNCH / name)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_batch_job_without_a_grid_says_how_it_is_used():
    script = ["bash", str(LAUNCH / "sweep.sbatch")]
    ended = subprocess.run(script, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "usage: sbatch" in ended.stderr


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["join"], ["run"]])
def test_cluster_script_says_how_it_is_used(arguments):
    script = ["bash", str(LAUNCH / "cluster.sh"), *arguments]
    ended = subprocess.run(script, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "cluster.sh join ADDRESS" in ended.stdout + ended.stderr


@pytest.fixture
def job() -> dict:
    return yaml.safe_load((LAUNCH / "rayjob.yaml").read_text())


def pods(job: dict) -> list[dict]:
    spec = job["spec"]["rayClusterSpec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_ray_job_runs_what_the_command_takes(job):
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    command = shlex.split(job["spec"]["entrypoint"].replace("/app/", ""))
    accepted(command)


def test_ray_job_is_of_the_ray_that_is_installed_and_asks_for_a_token(job):
    spec = job["spec"]["rayClusterSpec"]
    installed = metadata.version("ray").split(".")
    assert spec["rayVersion"].split(".")[:2] == installed[:2]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_ray_job_mounts_what_it_declares_and_every_pod_sees_the_run_folders(job):
    runs = shlex.split(job["spec"]["entrypoint"])
    place = runs[runs.index("--runs") + 1]
    for pod in pods(job):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) == set(volumes)
        assert volumes[mounts[place]]["persistentVolumeClaim"] == {"claimName": "sweep-runs"}
        environment = {one["name"]: one.get("value") for one in container["env"]}
        assert environment["HF_HOME"].startswith(f"{place}/"), "nodes that come later fetch nothing"


def amount(quantity: str) -> float:
    """Of CPUs or GPUs, as Kubernetes writes it."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def idle(grid_file: str, cpus: float, gpus: int) -> float:
    """GPUs of a node that stay idle however many trials of the grid's stages wait."""
    grid = load.load(ROOT / grid_file)
    asked = [grid.trial_resources(stage) for stage in grid.stages]
    busy = [
        one.gpus_per_trial
        * devices.trials_at_once(cpus, gpus, one.cpus_per_trial, one.gpus_per_trial)
        for one in asked
    ]
    return gpus - min(busy)


def test_ray_job_has_no_idle_gpu(job):
    grid_file = next(
        word for word in shlex.split(job["spec"]["entrypoint"]) if word.endswith(".yaml")
    )
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        cpus, gpus = amount(limits["cpu"]), int(limits["nvidia.com/gpu"])
        assert idle(grid_file.removeprefix("/app/"), cpus, gpus) == 0


def test_batch_job_has_no_idle_gpu():
    text = (LAUNCH / "sweep.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)", text, re.MULTILINE))
    (grid_file,) = re.findall(r"sbatch .*(grids/\S+\.yaml)", text.splitlines()[1])
    cpus, gpus = float(options["cpus-per-task"]), int(options["gpus-per-node"])
    assert idle(grid_file, cpus, gpus) == 0


def test_a_node_short_of_cpus_leaves_gpus_idle():
    assert idle("grids/lr_bs.yaml", 32, 8) == 4


def test_a_secret_for_the_hub_is_where_something_is_fetched(job):
    """The driver runs on the head; the other nodes look up what it has fetched."""
    for pod in pods(job):
        names = {entry["name"] for entry in pod["containers"][0]["env"]}
        assert "HF_TOKEN" in names


def test_ray_job_asks_for_amounts_that_kubernetes_reads(job):
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for pod in pods(job):
        resources = pod["containers"][0]["resources"]
        assert resources["limits"] == resources["requests"]
        assert all(QUANTITY.match(amount) for amount in resources["limits"].values())
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]
    assert all(isinstance(value, str) for value in head.values()), "Kubernetes takes texts alone"
