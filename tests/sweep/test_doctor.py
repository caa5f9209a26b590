"""What the doctor finds on this machine, for grids that could start and that could not."""

import importlib.util

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


def test_token_is_found_where_the_hubs_own_client_keeps_it(asked, small, tmp_path, monkeypatch):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor.hub, "access", lambda name, kind: "")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    text = small.replace("model: tiny", "model: nobody/has-this-model")
    assert "hub token: none" in asked(text).output
    (tmp_path / "token").write_text("hf_" + 20 * "a")
    assert "hub token: found" in asked(text).output


def test_package_that_reads_a_gguf_file_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    finding = doctor.gguf("some.gguf")
    assert finding.state == "gguf not installed"
    assert ".[smollm2]" in finding.mend


def test_items_from_files_are_advised_only_where_a_benchmark_takes_them(
    asked, small, tmp_path, monkeypatch
):
    monkeypatch.setattr(doctor.hub, "access", lambda name, kind: "it is not there")
    (tmp_path / "mine.yaml").write_text(
        "task: mine\ndataset_path: nobody/has-these-items\ntest_split: test\n"
        "output_type: generate_until\ndoc_to_text: q\ndoc_to_target: a\n"
    )
    ended = asked(small.replace("[world_choice]", f"[arc, {tmp_path / 'mine.yaml'}]"))
    arc, mine = [line for line in ended.output.splitlines() if "benchmark " in line]
    assert arc.endswith("set evaluate.data_dir to a folder with its items")
    assert "data_dir" not in mine


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
