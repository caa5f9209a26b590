"""A cluster that asks for a token, joined without one and with another's: a sentence that helps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.clusters import node
from tests.faults.runs import ROOT

GRID = """
name: small
model: tiny
stages:
  sft: {kind: sft, data: {name: world:sft, examples: 24}, batch_size: 4, learning_rate: 0.001}
evaluate: {benchmarks: [world_choice], limit: 8}
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with node(tmp_path_factory.mktemp("head"), "--head") as head:
        yield f"127.0.0.1:{head.port}"


def joined(address: str, home: Path) -> subprocess.CompletedProcess[str]:
    (home / "small.yaml").write_text(GRID)
    environment = {name: value for name, value in os.environ.items() if "RAY_AUTH" not in name}
    return subprocess.run(
        [sys.executable, "-m", "sweep.run", "small.yaml", "--address", address],
        cwd=home,
        env=environment | {"HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.parametrize(
    ("token", "told"),
    [(None, "the cluster asks for a token"), ("1" * 64, "the token here is not that cluster's")],
)
def test_cluster_without_its_token_is_one_sentence(address, tmp_path, token, told):
    if token is not None:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text(token)
    ended = joined(address, tmp_path)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 4
    assert f"--address {address}: {told}" in said
    assert "ray get-auth-token" in said, "what to do"
    assert "Traceback" not in said and "InvalidAuthToken" not in said
