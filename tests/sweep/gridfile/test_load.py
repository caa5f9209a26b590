"""Grid files: what is wrong is said, all at once, with its place; what is right loads."""

import re
from pathlib import Path

import pytest

from sweep.gridfile import load as config
from sweep.gridfile.load import GridError

EPOCHS_TOO = "    steps: 3\n    epochs: 1"
BOTH_WARMUPS = "    warmup_ratio: 0.1\n    warmup_steps: 2"

BROKEN = {
    # id: (what is replaced, by what, the line of the problem, what its message has to hold)
    "unknown stage key": (
        "    steps: 3", "    stepps: 3", 7, ["stages.sft.stepps", "did you mean `steps`"],
    ),
    "unknown top key": (
        "resources:", "resorces:", 17, ["resorces", "did you mean `resources`"],
    ),
    "unknown key far from any": (
        "cpus_per_trial", "memory", 17, ["resources.memory", "use one of cpus_per_trial"],
    ),
    "unknown kind": ("kind: sft", "kind: dop", 5, ["stages.sft.kind", "'dop'", "use one of sft"]),
    "missing kind": ("    kind: sft\n", "", 4, ["stages.sft.kind", "missing", "use one of sft"]),
    "missing model": ("model: tiny\n", "", None, ["`model` is missing"]),
    "missing data": (
        "    data: {name: world:sft, examples: 24}\n", "", 4, ["stages.sft.data", "missing"],
    ),
    "negative rate": (
        "[0.001, 0.002]", "[0.001, -2.0]", 11,
        ["stages.sft.grid.learning_rate[1]", "-2.0", "greater than 0"],
    ),
    "rate that is no number": (
        "[0.001, 0.002]", "[0.001, fast]", 11,
        ["stages.sft.grid.learning_rate[1]", "'fast'", "number"],
    ),
    "rate that is not finite": (
        "[0.001, 0.002]", "[.inf]", 11, ["stages.sft.grid.learning_rate[0]", "inf", "finite"],
    ),
    "half a batch": (
        "[4]", "[4, 4.5]", 12, ["stages.sft.grid.batch_size[1]", "4.5", "integer"],
    ),
    "batch of a word": ("[4]", "['4']", 12, ["stages.sft.grid.batch_size[0]", "'4'", "integer"]),
    "no batch": ("[4]", "[0]", 12, ["stages.sft.grid.batch_size[0]", ": 0:", "equal to 1"]),
    "empty axis": ("[4]", "[]", 12, ["stages.sft.grid.batch_size", "no values"]),
    "value twice": ("[4]", "[4, 8, 4]", 12, ["stages.sft.grid.batch_size", "4 stands twice"]),
    "axis that falls": (
        "[4]", "{log2: [64, 4]}", 12, ["stages.sft.grid.batch_size", "[64, 4]", "rise"],
    ),
    "axis that is no axis": (
        "[4]", "4", 12, ["stages.sft.grid.batch_size", ": 4:", "{log2: [low, high]}"],
    ),
    "unknown axis": (
        "      batch_size: [4]", "      batch_size: [4]\n      sede: [0]", 13,
        ["stages.sft.grid.sede", "did you mean `seed`"],
    ),
    "axis and plain value": (
        "    steps: 3", "    batch_size: 8", 7, ["stages.sft.batch_size", "axis"],
    ),
    "epochs and steps": ("    steps: 3", EPOCHS_TOO, 4, ["stages.sft", "epochs or steps"]),
    "both warmups": (
        "    steps: 3", BOTH_WARMUPS, 4, ["stages.sft", "warmup_ratio or warmup_steps"],
    ),
    "unknown schedule": (
        "    steps: 3", "    schedule: lin", 7,
        ["stages.sft.schedule", "'lin'", "'linear'", "'cosine'", "'constant'"],
    ),
    "unknown start": (
        "    steps: 3", "    start_from: pretrain", 7,
        ["stages.sft.start_from", "'pretrain'", "use one of base"],
    ),
    "start from itself": ("    steps: 3", "    start_from: sft", 7, ["start_from", "circle: sft"]),
    "stage named base": ("  sft:", "  base:", 4, ["stages.base", "another name"]),
    "stages as a list": ("stages:\n", "stages: []\nrest:\n", 3, ["stages", "not a mapping"]),
    "unknown benchmark": (
        "[world_choice]", "[world_choice, ark]", 14,
        ["evaluate.benchmarks[1]", "'ark'", "use one of arc, gsm8k"],
    ),
    "benchmark twice": (
        "[world_choice]", "[world_choice, world_choice]", 14, ["evaluate.benchmarks[1]", "twice"],
    ),
    "no task file": (
        "[world_choice]", "[mine.yaml]", 14, ["evaluate.benchmarks[0]", "'mine.yaml'"],
    ),
    "no data file": ("world:sft", "mine.jsonl", 6, ["stages.sft.data", "no file 'mine.jsonl'"]),
    "data of unknown form": (
        "world:sft", "./mine.txt", 6,
        ["stages.sft.data", "'./mine.txt'", ".jsonl, .json, .parquet"],
    ),
    "unknown world": (
        "world:sft", "world:dpo", 6,
        ["stages.sft.data", "'world:dpo'", "world:pretrain, world:sft"],
    ),
    "no model folder": ("model: tiny", "model: ./mine", 2, ["model", "'./mine'"]),
    "model of no form": ("model: tiny", "model: mine", 2, ["model", "'mine'", "`tiny`"]),
    "no data folder": (
        "  limit: 8", "  data_dir: nowhere", 15, ["evaluate.data_dir", "'nowhere'"],
    ),
    "no cpus": (
        "cpus_per_trial: 1", "cpus_per_trial: 0", 17,
        ["resources.cpus_per_trial", "greater than 0"],
    ),
    "a gpu and a half": (
        "cpus_per_trial: 1", "gpus_per_trial: 1.5", 17, ["gpus_per_trial", "a whole number"],
    ),
    "more processes than gpus": (
        "cpus_per_trial: 1", "gpus_per_trial: 2, ranks_per_trial: 3", 17, ["a GPU each, not 2"],
    ),
    "fewer processes than gpus": (
        "cpus_per_trial: 1", "gpus_per_trial: 2, ranks_per_trial: 1", 17,
        ["1 of 2 GPUs would be used", "give gpus_per_trial: 1, or leave ranks_per_trial out"],
    ),
    "gpus that nodes cannot divide": (
        "cpus_per_trial: 1", "gpus_per_trial: 3, nodes_per_trial: 2", 17,
        ["2 nodes cannot divide gpus_per_trial: 3", "give gpus_per_trial: 2 or a multiple"],
    ),
    "more nodes than cpus": (
        "cpus_per_trial: 1", "cpus_per_trial: 1, nodes_per_trial: 2", 17,
        ["2 nodes cannot divide cpus_per_trial: 1", "give cpus_per_trial: 2"],
    ),
    "processes that nodes cannot divide": (
        "cpus_per_trial: 1", "cpus_per_trial: 8, ranks_per_trial: 3, nodes_per_trial: 2", 17,
        ["2 nodes cannot have equal parts of 3 processes", "give ranks_per_trial: 2"],
    ),
    "sharding with nobody to share with": (
        "cpus_per_trial: 1", "gpus_per_trial: 1, sharding: full", 17,
        ["resources", "one process", "gpus_per_trial: 2"],
    ),
    "optimizer of whole matrices, sharded": (
        "    steps: 3",
        "    optimizer: muon\n    resources: {gpus_per_trial: 2, sharding: full}", 7,
        ["stages.sft.optimizer", "'muon' with sharding: full", "use adamw or sgd"],
    ),
    "weights in 4 bits, sharded": (
        "    steps: 3",
        "    adapter: {base_weights: nf4}\n    resources: {gpus_per_trial: 2, sharding: full}", 7,
        ["stages.sft.adapter", "nf4 with sharding: full", "use base_weights: float32"],
    ),
    "other bits": (
        "    steps: 3", "    adapter: {base_weights: int8}", 7,
        ["stages.sft.adapter.base_weights", "'float32' or 'nf4'"],
    ),
    "lanes in several processes": (
        "cpus_per_trial: 1", "gpus_per_trial: 2, lanes: 4", 17, ["lanes: 4 cells", "lanes: 1"],
    ),
    "stage that asks for half a device": (
        "    steps: 3", "    resources: {ranks_per_trial: 2}", 7,
        ["stages.sft.resources", "a CPU each, not 1"],
    ),
    "stage with a key of the whole run": (
        "    steps: 3", "    resources: {retries: 2}", 7,
        ["stages.sft.resources.retries", "unknown key"],
    ),
    "name that leaves the folder": ("name: small", "name: ../x", 1, ["name", "'../x'"]),
    "arm with an unknown key": (
        "    steps: 3", "    arms: [{name: a, set: {stps: 3}}]", 7,
        ["stages.sft.arms[0].set.stps", "did you mean `steps`"],
    ),
    "arm with a wrong value": (
        "    steps: 3", "    arms: [{name: a, set: {steps: 0}}]", 7,
        ["stages.sft.arms[0].set.steps", ": 0:", "equal to 1"],
    ),
    "two arms of one name": (
        "    steps: 3", "    arms: [{name: a, set: {steps: 3}}, {name: a, set: {steps: 4}}]", 7,
        ["stages.sft.arms", "one name"],
    ),
    "key given twice": ("model: tiny", "model: tiny\nmodel: tiny", 3, ["duplicate key", "model"]),
    "tab": ("    steps: 3", "\tsteps: 3", 7, ["tab", "spaces"]),
    "tag that runs code": (
        "model: tiny", "model: !!python/name:os.system tiny", 2, ["model", "tag", "not allowed"],
    ),
    "key that is no text": ("    steps: 3", "    3: 3", 4, ["3", "not a text"]),
    "date": (
        "name: small", "name: 2020-01-01", 1, ["name", "not a plain value", "quotes: '2020-01-01'"],
    ),
    "limit of cost without a price": (
        "resources:", "limits: {max_cost: 5}\nresources:", 17,
        ["limits.max_cost", ": 5:", "price: {gpu_hour: 2.5}"],
    ),
    "price of what nobody asks for": (
        "resources:", "price: {gpu_hour: 2.5}\nresources:", 17,
        ["price.gpu_hour", "2.5", "give price.cpu_hour"],
    ),
    "currency that is none": (
        "resources:", "price: {cpu_hour: 1, currency: dollars}\nresources:", 17,
        ["price.currency", "'dollars'", "pattern"],
    ),
    "bracket left open": ("name: small", "name: [small", 2, ["expected"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_problem_is_named_with_file_line_key_value_and_what_is_allowed(case, small, grid_file):
    old, new, line, said = BROKEN[case]
    assert old in small
    path = grid_file(small.replace(old, new, 1))
    with pytest.raises(GridError) as caught:
        config.load(path)
    where = f"{path}:" if line is None else f"{path}:{line}: "
    fitting = [
        problem
        for problem in caught.value.problems
        if problem.startswith(where) and all(part in problem for part in said)
    ]
    assert len(fitting) == 1, str(caught.value)


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


@pytest.mark.parametrize("case", ["unknown stage key", "value twice", "unknown benchmark"])
def test_command_refuses_a_broken_grid_and_writes_nothing(
    case, small, grid_file, command, child_seconds, tmp_path
):
    old, new, line, said = BROKEN[case]
    path = grid_file(small.replace(old, new, 1))
    before = child_seconds()
    run = command(path, "--runs", tmp_path / "runs")
    assert child_seconds() - before < 3
    assert run.returncode == 2
    assert f"grid.yaml:{line}: " in run.stderr
    assert all(part in run.stderr for part in said)
    assert "Traceback" not in run.stderr
    assert not run.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["grid.yaml"]


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
