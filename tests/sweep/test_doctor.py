"""What the doctor finds on this machine, for grids that could start and that could not."""

import pytest
from typer.testing import CliRunner

from sweep import doctor


@pytest.fixture
def asked(grid_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "300")

    def ask(text: str):
        return CliRunner().invoke(doctor.app, [str(grid_file(text)), "--runs", str(tmp_path)])

    return ask


def test_grid_that_needs_nothing_could_start(asked, small):
    ended = asked(small)
    assert ended.exit_code == 0, ended.output
    assert "MISSING" not in ended.output
    for part in ("torch", "Ray", "CPU cores", "benchmark world_choice", "GB free", "port 8265"):
        assert part in ended.output


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("cpus_per_trial: 1}", "cpus_per_trial: 1000}", "lower resources"),
        ("model: tiny", "model: nobody/has-this-model", "model nobody/has-this-model"),
        ("{name: world:sft, examples: 24}", "nobody/has-this-data", "dataset nobody/has-this-data"),
        ("cpus_per_trial: 1}", "cpus_per_trial: 1}\ntracking: {wandb: {project: p, mode: online}}",
         "set WANDB_API_KEY"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_what_to_do(asked, small, old, new, said, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(doctor, "_netrc", lambda: "")
    ended = asked(small.replace(old, new))
    assert ended.exit_code == 4, ended.output
    (line,) = [line for line in ended.output.splitlines() if said in line]
    assert line.startswith("MISSING")


def test_wrong_grid_is_no_patient(asked, small):
    ended = asked(small.replace("kind: sft", "kind: dop"))
    assert ended.exit_code == 2
    assert "'dop' is not a stage" in ended.output


def test_key_of_a_parent_that_no_model_has_is_the_grids_fault(asked, chain):
    ended = asked(
        chain.replace("start_from: first", "start_from: first\n    parent: '0123456789ab'")
    )
    assert ended.exit_code == 2
    assert "stages.second.parent: '0123456789ab': no model of first" in ended.output


def test_machine_alone_is_looked_at_too(tmp_path):
    ended = CliRunner().invoke(doctor.app, ["--runs", str(tmp_path)])
    assert ended.exit_code == 0, ended.output
