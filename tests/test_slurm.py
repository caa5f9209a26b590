"""The batch job for SLURM, its commands, `ray` and `python` replaced by scripts: `ray stop`, which
`ray symmetric-run` ends with, would stop every Ray of this machine."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_launch import LAUNCH, accepted

SRUN = 'while [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"'
"""Runs what follows its options, as on a job's only node."""

RAY = 'echo "$*" >ray; while [ "$1" != -- ]; do shift; done; shift\n"$@"'

SAVES = "trap 'sleep 0.3; touch saved; exit 130' TERM; touch started; while :; do sleep 0.05; done"
"""A command that needs a moment after SIGTERM, as the driver does."""


@pytest.fixture
def submitted(tmp_path, monkeypatch) -> Callable[..., subprocess.Popen]:
    """Starts the batch job in `tmp_path`; scripts by name take the place of the standard ones."""
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)

    def start(*arguments: str, **scripts: str) -> subprocess.Popen:
        standard = {"scontrol": '[ "$1" = show ] && echo first || echo "$*" >>scontrol'}
        standard |= {"srun": SRUN, "ray": RAY, "python": 'echo "$*" >python'}
        folder = tmp_path / ".venv" / "bin"
        folder.mkdir(parents=True)
        for name, text in (standard | scripts).items():
            (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
            (folder / name).chmod(0o755)
        job = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NODELIST": "first"}
        job |= {"SLURM_JOB_ID": "7", "SLURM_NNODES": "1", "TMPDIR": str(tmp_path)}
        job["PATH"] = f"{folder}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", str(LAUNCH / "sweep.sbatch"), *(arguments or ["grid.yaml"])],
            env=os.environ | job,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def requeued(folder: Path) -> bool:
    calls = folder / "scontrol"
    return calls.exists() and calls.read_text() == "requeue 7\n"


def wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.02)


@pytest.mark.parametrize("own", [None, 64 * "b"])
def test_batch_job_starts_a_node_each_and_the_command_on_the_first(
    own, submitted, tmp_path, monkeypatch
):
    if own:
        monkeypatch.setenv("RAY_AUTH_TOKEN", own)
    srun = f'echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN" >token; {SRUN}'
    job = submitted("grids/quickstart.yaml", "--set", "name=two", srun=srun)
    assert job.wait(30) == 0
    mode, token = (tmp_path / "token").read_text().split()
    assert mode == "token"
    assert re.fullmatch(own or "[0-9a-f]{64}", token)
    words = (tmp_path / "ray").read_text().split()
    assert words[:5] == ["symmetric-run", "--address", "first:20007", "--min-nodes", "1"]
    command = ["python", *shlex.split((tmp_path / "python").read_text())]
    assert command[-5:] == ["grids/quickstart.yaml", "--address", "auto", "--set", "name=two"]
    if not own:
        accepted(command)
    assert not requeued(tmp_path)


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5])
def test_code_of_the_command_is_that_of_the_job_whatever_other_nodes_end_with(
    code, submitted, tmp_path
):
    srun = f"({SRUN}\n)\nexit 143"
    job = submitted(srun=srun, python=f"exit {code}")
    assert job.wait(30) == code
    assert not requeued(tmp_path)


def test_ray_that_does_not_start_is_a_job_that_failed(submitted, tmp_path):
    job = submitted(ray='echo "Failed to start Ray" >&2')
    _, error = job.communicate(timeout=30)
    assert job.returncode == 1
    assert "the command did not run to its end" in error
    assert not requeued(tmp_path)


def test_nodes_have_minutes_to_come(submitted, tmp_path):
    job = submitted(ray='echo "$RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT" >seconds')
    job.wait(30)
    assert int((tmp_path / "seconds").read_text()) >= 300


def test_before_the_time_is_up_the_command_saves_and_the_job_goes_back_into_the_queue(
    submitted, tmp_path
):
    job = submitted(python=SAVES)
    wait_for(tmp_path / "started")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 130
    assert (tmp_path / "saved").exists()
    assert requeued(tmp_path)


def test_notice_while_the_command_still_starts_sends_the_job_back_too(submitted, tmp_path):
    job = submitted(python="touch started; while :; do sleep 0.05; done")
    wait_for(tmp_path / "started")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 130
    assert requeued(tmp_path)


def test_job_that_is_preempted_saves_too(submitted, tmp_path):
    """SLURM sends SIGTERM to the first process of the step, and none to the batch script."""
    job = submitted(srun=f"echo $$ >step; {SRUN}", python=SAVES)
    wait_for(tmp_path / "started")
    os.kill(int((tmp_path / "step").read_text()), signal.SIGTERM)
    assert job.wait(30) == 130
    assert (tmp_path / "saved").exists()
    assert requeued(tmp_path)


def test_job_that_is_cancelled_stays_out_of_the_queue(submitted, tmp_path):
    """SLURM sends SIGTERM to the step and to the batch script."""
    job = submitted(srun=f"echo $$ >step; {SRUN}", python=SAVES)
    wait_for(tmp_path / "started")
    job.send_signal(signal.SIGTERM)
    assert job.wait(30) == -signal.SIGTERM
    os.kill(int((tmp_path / "step").read_text()), signal.SIGTERM)
    wait_for(tmp_path / "saved")
    assert not requeued(tmp_path)


def test_batch_job_asks_for_the_signal_that_it_awaits():
    text = (LAUNCH / "sweep.sbatch").read_text()
    (asked,) = re.findall(r"^#SBATCH --signal=B:(\w+)@300$", text, re.MULTILINE)
    assert f"trap notice {asked}" in text
