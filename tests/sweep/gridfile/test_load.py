"""Grid files: what is wrong is said, all at once, with its place; what is right loads."""

import json
import re
from pathlib import Path

import pytest

from analysis.advice import grid_file as offered
from sweep.gridfile import load as config
from sweep.gridfile.keys.choosers import Decide
from sweep.gridfile.load import GridError


@pytest.mark.parametrize(
    "key",
    [
        "name",
        "model",
        "stages",
        "evaluate",
        "resources",
    ],
)
def test_key_without_a_value_is_a_problem(key, small, grid_file):
    text = re.sub(rf"^{key}:.*\n(?: .*\n)*", f"{key}:\n", small, flags=re.MULTILINE)
    with pytest.raises(GridError, match=key):
        config.load(grid_file(text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    steps: 3", "    start_from: [base]"),
        ("kind: sft", "kind: [sft]"),
        ("kind: sft", "kind: {sft: 1}"),
    ],
)
def test_list_where_a_word_belongs_is_a_problem(old, new, small, grid_file):
    with pytest.raises(GridError, match=r"stages\.sft"):
        config.load(grid_file(small.replace(old, new)))


def test_circle_of_stages_is_a_problem_of_each(small, grid_file):
    stage = small.partition("stages:\n")[2].partition("evaluate:")[0]
    first = stage.replace("  sft:\n", "  first:\n    start_from: second\n")
    second = stage.replace("  sft:\n", "  second:\n    start_from: first\n")
    with pytest.raises(GridError) as caught:
        config.load(grid_file(small.replace(stage, first + second)))
    assert len(caught.value.problems) == 2
    assert "first -> second" in str(caught.value)


@pytest.mark.parametrize("name", ["../../elsewhere", "/tmp/elsewhere", "a/b", "a b"])
def test_stage_name_that_is_no_plain_name_is_a_problem(name, small, grid_file):
    with pytest.raises(GridError, match="stages"):
        config.load(grid_file(small.replace("  sft:", f"  {name}:")))


def test_data_file_of_an_arm_is_looked_for_too(small, grid_file):
    arm = "    steps: 3\n    arms: [{name: a, set: {data: nowhere.jsonl}}]"
    with pytest.raises(GridError, match=r"nowhere\.jsonl"):
        config.load(grid_file(small.replace("    steps: 3", arm)))


def test_threads_are_shared_among_the_processes_of_a_trial_unless_they_are_given(small, grid_file):
    text = small.replace("    steps: 3", "    steps: 3\n    resources: {RESOURCES}")
    for resources, threads, evaluation_threads in (
        ("cpus_per_trial: 8, ranks_per_trial: 2", 4, 8),
        ("cpus_per_trial: 8, ranks_per_trial: 2, threads_per_rank: 1", 1, 8),
        ("threads_per_rank: 2", 2, 1),
        ("cpus_per_trial: 8, nodes_per_trial: 2", 4, 4),
    ):
        grid = config.load(grid_file(text.replace("RESOURCES", resources)))
        found = grid.trial_resources("sft")
        assert (found.threads, found.evaluation_threads) == (threads, evaluation_threads)
        assert grid.resources.threads == 1


def test_all_problems_come_in_one_message_in_the_order_of_the_file(small, grid_file):
    text = (
        small.replace("kind: sft", "kind: sft\n    epoch: 1")
        .replace("[0.001, 0.002]", "[0.001, -1]")
        .replace("[4]", "[4, 4]")
        .replace("world_choice", "world_choise")
        .replace("cpus_per_trial: 1", "cpus: 1")
    )
    with pytest.raises(GridError) as caught:
        config.load(grid_file(text))
    lines = [int(problem.split(":")[1]) for problem in caught.value.problems]
    assert lines == [6, 12, 13, 15, 18]
    assert str(caught.value).count("\n") == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a mapping"),
        (b"- a\n", "not a mapping"),
        (b"name: \xff\n", "not UTF-8"),
        (b"x: " + b"y" * 100_001, "larger than"),
        (b"a: " + b"[ {" * 200, "brackets more than 50 deep"),
        (b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
            b"%c: &%c [%s]\n" % (n + 1, n + 1, b", ".join([b"*%c" % n] * 9))
            for n in range(ord("a"), ord("h"))
        ), "expands to more than"),
    ],
    ids=["empty", "a list", "not UTF-8", "too large", "too deep", "aliases of aliases"],
)  # fmt: skip
def test_file_that_is_no_grid_file_is_refused(content, said, tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_bytes(content)
    with pytest.raises(GridError, match=said):
        config.load(path)


def test_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(GridError, match="cannot be read"):
        config.load(tmp_path / "grid.yaml")


def test_command_refuses_local_with_an_address(small, grid_file, command, tmp_path):
    run = command(grid_file(small), "--local", "--address", "auto", "--runs", tmp_path / "runs")
    assert run.returncode == 2
    assert "--local" in run.stderr
    assert not (tmp_path / "runs").exists()


def test_dry_run_writes_nothing(small, grid_file, command, tmp_path):
    run = command(grid_file(small), "--dry-run", "--runs", tmp_path / "runs")
    assert run.returncode == 0
    assert re.search(r"\b(2\.50?e-0?4|0\.00025)\b", run.stdout), "the ratio of the first cell"
    assert [file.name for file in tmp_path.iterdir()] == ["grid.yaml"]


def test_override_replaces_a_value_of_the_file(load, small):
    _, spec = load(small, "stages.sft.steps=5").stages["sft"].cells[0]
    assert spec.steps == 5


def test_override_replaces_an_axis(load, small):
    grid = load(small, "stages.sft.grid.learning_rate={log2: [0.1, 0.4]}")
    assert grid.stages["sft"].axes["learning_rate"] == (0.1, 0.2, 0.4)


def test_override_adds_a_key_that_the_file_lacks(load, small):
    grid = load(small, "resources.max_concurrent=2", "stages.sft.seed=7")
    assert grid.resources.max_concurrent == 2
    assert grid.stages["sft"].cells[0][1].seed == 7


def test_last_override_of_a_key_counts(load, small):
    assert load(small, "name=a", "name=b").name == "b"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stages.sft.steps=0", "stages.sft.steps: 0"),
        ("stages.sft.stps=1", "did you mean `steps`"),
        ("stages.sft.grid.batch_size=[4, 4]", "stands twice"),
        ("stages.sft.grid.batch_size=[4, -4]", r"batch_size\[1\]: -4"),
        ("evaluate.benchmarks=[ark]", "'ark' is not a benchmark"),
        ("stages.sft.steps", "not of the form"),
        ("=1", "not of the form"),
        ("stages..steps=1", "not of the form"),
        ("name.first=a", "name holds no keys"),
        ("stages.sft.steps=[1", "expected"),
    ],
)
def test_override_is_checked_like_the_file_and_named(override, said, load, small):
    with pytest.raises(GridError, match=said) as caught:
        load(small, override)
    assert caught.value.problems[0].startswith(f"--set {override}:")


def test_misspelt_parent_in_an_override_is_named_as_the_override(load, small):
    with pytest.raises(GridError, match=r"--set stagess\.sft\.steps=1"):
        load(small, "stagess.sft.steps=1")


def test_command_takes_several_overrides(small, grid_file, command):
    overrides = ["--set", "stages.sft.grid.batch_size=[2]", "--set", "stages.sft.steps=77"]
    run = command(grid_file(small), "--dry-run", *overrides)
    assert run.returncode == 0, run.stderr
    assert "BS 2" in run.stdout
    assert "77" in run.stdout


def test_arm_repeats_the_grid_under_its_settings(load, small):
    arms = "    arms: [{name: short, set: {steps: 2}}, {name: long, set: {steps: 9}}]"
    cells = load(small.replace("    steps: 3", arms)).stages["sft"].cells
    assert [(arm, spec.steps, spec.learning_rate) for arm, spec in cells] == [
        ("short", 2, 0.001),
        ("short", 2, 0.002),
        ("long", 9, 0.001),
        ("long", 9, 0.002),
    ]


def test_any_scalar_key_may_be_an_axis(load, small):
    grid = load(small, "stages.sft.grid.schedule=[linear, constant]")
    assert {spec.schedule for _, spec in grid.stages["sft"].cells} == {"linear", "constant"}
    assert len(grid.stages["sft"].cells) == 4


def test_grid_cut_in_the_middle_of_braces_is_refused(grid_file):
    with pytest.raises(GridError, match=r"grid\.yaml:3: expected the node content"):
        config.load(grid_file("name: small\nresources: {#: 1}\n"), [])


def test_list_as_a_key_is_refused(grid_file):
    with pytest.raises(GridError, match="is not a text"):
        config.load(grid_file("name: small\nresources: {[1]: 1}\n"), [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("quikstart.yaml", "there is grids/quickstart.yaml"),
        ("grids/lr_bs.yml", "there is grids/lr_bs.yaml"),
        ("https://host/grid.yaml", "fetch the file, and give its path"),
        ("mine", "its grid file is mine/grid.yaml"),
    ],
)
def test_a_path_that_is_no_grid_file_leads_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    for name in ("grids/quickstart.yaml", "grids/lr_bs.yaml", "mine/grid.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("name: run")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(config.GridError, match=said):
        config.load(Path(given))


def test_the_report_takes_a_decide_without_trials_for_what_it_is():
    assert Decide().trials == offered.TRIALS


@pytest.mark.parametrize("of_the_key", ["n_positions", "max_position_embeddings"])
def test_texts_longer_than_the_positions_of_a_model_are_refused(
    of_the_key, small, grid_file, tmp_path
):
    kind = {"n_positions": "gpt2", "max_position_embeddings": "opt"}[of_the_key]
    learned = {"model_type": kind, of_the_key: 128}
    (tmp_path / "learned").mkdir()
    (tmp_path / "learned" / "config.json").write_text(json.dumps(learned))
    text = re.sub("^model: .*", f"model: {tmp_path / 'learned'}", small, flags=re.MULTILINE)
    config.load(grid_file(text))
    with pytest.raises(GridError, match=r"sft\.max_length: .* learned 128 positions.* at most 128"):
        config.load(grid_file(text.replace("max_length: 128", "max_length: 129")))
    settings = "data: world:prompts, grid: {learning_rate: [1.0e-5], batch_size: [8]}"
    rlvr = f"  first: {{kind: rlvr, {settings}, max_new_tokens: 128, reward: exact_match}}\n"
    asked = text.replace("stages:\n", f"stages:\n{rlvr}")
    with pytest.raises(GridError, match=r"first\.max_new_tokens: 128: .* learned 128 positions"):
        config.load(grid_file(asked))
