"""Grid files and command lines that are wrong in ways that come seldom: told, and nothing written.

Those with one wrong value are in gridfile/test_broken.py.
"""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweep import run
from sweep.gridfile import load as config
from sweep.gridfile.load import GridError


def test_a_thousand_problems_are_counted(small, grid_file):
    rates = [f"-{n}.5" for n in range(1, 1001)]
    sizes = [str(size) for size in range(1, 21)]
    text = small.replace("[0.001, 0.002]", f"[{', '.join(rates)}]")
    with pytest.raises(GridError) as caught:
        config.load(grid_file(text.replace("[4]", f"[{', '.join(sizes)}]")))
    assert len(caught.value.problems) == 101
    assert "learning_rate[0]: -1.5" in caught.value.problems[0]
    assert caught.value.problems[-1] == "and 900 more"


def test_stages_that_multiply_beyond_reason_are_not_planned(small, grid_file):
    """Each model of one stage is the start of every cell of the next: here 500^3."""
    stage = small.partition("  sft:\n")[2].partition("evaluate:")[0]
    many = stage.replace("[0.001, 0.002]", "{log: [1.0e-6, 1.0e-2], count: 500}")
    chain = "  sft:\n" + many
    for start, name in (("sft", "second"), ("second", "third")):
        chain += f"  {name}:\n    start_from: {start}\n{many}"
    with pytest.raises(GridError) as caught:
        config.load(grid_file(small.replace("  sft:\n" + stage, chain)))
    (problem,) = caught.value.problems
    assert "stages.second: 500 models of sft x 500 cells" in problem


def test_merged_keys_load_and_their_problems_have_a_line(small, grid_file):
    """`<<` is plain YAML; a merged key stands nowhere in the mapping that it is merged into."""
    stage = small.partition("  sft:\n")[2].partition("evaluate:")[0]
    twice = small.replace("  sft:\n", "  sft: &sft\n").replace(
        stage, f"{stage}  again:\n    <<: *sft\n    steps: 4\n"
    )
    grid = config.load(grid_file(twice))
    assert [len(stage.cells) for stage in grid.stages.values()] == [2, 2]
    with pytest.raises(GridError) as caught:
        config.load(grid_file(twice.replace("max_length: 128", "max_length: none")))
    assert any("again.max_length" in problem for problem in caught.value.problems)
    assert all(problem.split(":")[1].isdigit() for problem in caught.value.problems)


def test_alias_of_itself_is_no_endless_file(small, grid_file):
    with pytest.raises(GridError, match="learning_rate"):
        config.load(grid_file(small.replace("[0.001, 0.002]", "&rates [0.001, *rates]")))


def test_file_without_an_end_is_refused():
    with pytest.raises(GridError, match="larger than"):
        config.load(Path("/dev/zero"))


def refused(ended, path, *said: str) -> None:
    """Exit code 2, in words, and nothing in `path` that was not there."""
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert all(part in ended.stderr for part in said), ended.stderr
    assert "Traceback" not in ended.stderr
    assert sorted(one.name for one in path.iterdir()) == ["grid.yaml"]


def test_command_asks_before_very_many_trials(small, grid_file, command, child_seconds, tmp_path):
    rates = "{log: [1.0e-6, 1.0e-2], count: 500}\n      seed: [0, 1, 2, 3]"
    many = small.replace("[0.001, 0.002]", rates)
    before = child_seconds()
    ended = command(grid_file(many), "--runs", tmp_path / "runs")
    assert child_seconds() - before < 5
    refused(ended, tmp_path, "grid.yaml", "2,001 trials", "--dry-run", "--yes")


@pytest.mark.parametrize(
    ("overrides", "count"),
    [([], 3), (["limits.max_trials=2"], 2), (["stages.sft.grid.seed=[0, 1, 2]"], 7)],
)
def test_trials_that_may_start_are_counted(overrides, count, load, planned, small):
    grid = load(small, *overrides)
    trials = planned(small, *overrides)
    assert run._to_run(grid, trials, None) == count
    assert run._to_run(grid, trials, frozenset([trials[0].key])) == 1


def test_run_folder_that_is_a_link_is_refused(small, grid_file, command, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "small").symlink_to(elsewhere)
    ended = command(grid_file(small), "--local", "--runs", tmp_path / "runs")
    assert ended.returncode == 2
    assert f"a link to {elsewhere}" in ended.stderr
    assert not list(elsewhere.iterdir())


def test_runs_may_be_a_link(tmp_path):
    from sweep.storage.run_folder import RunFolder

    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    assert RunFolder(tmp_path / "runs" / "small").problem() is None


@pytest.mark.parametrize("kind", ["file", "link to nowhere", "file above"])
def test_place_that_is_no_folder_is_named(kind, tmp_path):
    from sweep.storage.run_folder import RunFolder

    place, named = tmp_path / "runs" / "small", tmp_path / "runs"
    match kind:
        case "file":
            place.parent.mkdir()
            place.touch()
            named = place
        case "link to nowhere":
            os.symlink(tmp_path / "nowhere", named)
        case "file above":
            named.touch()
    said = RunFolder(place).problem() or ""
    assert said.startswith(f"{named}: is not a folder")


def test_place_that_may_not_be_written_to_is_named(tmp_path, monkeypatch):
    from sweep.storage.run_folder import RunFolder

    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)  # root may everything
    said = RunFolder(tmp_path / "runs" / "small").problem() or ""
    assert said.startswith(f"{tmp_path}: may not be written to")


PLACES = {
    "--runs": ["", " ", "http://[", "://x", "s3://", "r" * 300, "/".join(["r" * 200] * 30), "a\0b"],
    "--address": ["", "nowhere", "http://[", "127.0.0.1", "ray://", "ray://host:10001"],
}


@pytest.mark.parametrize(("option", "value"), [(o, v) for o, some in PLACES.items() for v in some])
def test_option_that_names_no_place_is_one_sentence(option, value, small, grid_file, tmp_path):
    text = small.replace("  batch_size: 8\n", "")  # an old name, of which it is told first
    ended = CliRunner().invoke(run.app, [str(grid_file(text)), option, value])
    assert ended.exit_code == 2
    assert ended.stderr.startswith(option) and ended.stderr.count("\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["grid.yaml"]


def test_ray_client_by_the_environment_is_refused_with_what_works(small, grid_file, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://host:10001")
    ended = CliRunner().invoke(run.app, [str(grid_file(small)), "--address", "auto"])
    assert ended.exit_code == 2
    assert "(RAY_ADDRESS=ray://host:10001)" in ended.stderr
    assert "`ray job submit`" in ended.stderr and "--address auto or HOST:PORT" in ended.stderr


def test_waiting_for_ever_is_refused(small, grid_file, command, tmp_path):
    refused(command(grid_file(small), "--wait", "inf", "--runs", tmp_path / "runs"), tmp_path)


@pytest.mark.parametrize("content", ["{", '{"parent": "0123456789ab"}', "[1]"])
@pytest.mark.parametrize("option", ["--local", "--dry-run"])
def test_damaged_choice_of_a_parent_is_named(content, option, pipeline, grid_file, tmp_path):
    file = tmp_path / "runs" / "pipeline" / "choices" / "dpo.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    arguments = [str(grid_file(pipeline)), option, "--runs", str(tmp_path / "runs")]
    ended = CliRunner().invoke(run.app, arguments, catch_exceptions=False)
    assert ended.exit_code == 4
    assert ended.stderr.startswith(str(file)) and ended.stderr.count("\n") == 1


def test_calibrate_ends_as_the_run_does_where_a_benchmark_cannot_be_scored(
    small, grid_file, perplexity_task, tmp_path
):
    task = perplexity_task.read_text()
    perplexity_task.write_text(task.replace("{{page}}", "{{page | no_such_filter}}"))
    file = grid_file(small.replace("[world_choice]", f"[{perplexity_task}]"))
    arguments = [str(file), "--calibrate", "--runs", str(tmp_path / "runs")]
    ended = CliRunner().invoke(run.app, arguments, catch_exceptions=False)
    assert ended.exit_code == 2
    assert "my_ppl" in ended.stderr


@pytest.mark.parametrize("content", ["{", "", "[]", "{}"])
def test_plan_of_a_run_with_damaged_measurements_names_them(
    content, small, grid_file, command, tmp_path
):
    file = tmp_path / "runs" / "small" / "calibration.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    ended = command(grid_file(small), "--dry-run", "--runs", tmp_path / "runs")
    assert ended.returncode == 4
    assert str(file) in ended.stderr
    assert "Traceback" not in ended.stderr
