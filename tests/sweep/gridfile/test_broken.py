"""Grid files that are wrong in one place: it is named, with the value and what is allowed."""

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
    "rate given as a text": (
        "[0.001, 0.002]", "['1e-4']", 11,
        ["stages.sft.grid.learning_rate[0]", "'1e-4'", "number"],
    ),
    "rate that is not a number": (
        "[0.001, 0.002]", "[.nan]", 11, ["stages.sft.grid.learning_rate[0]", "nan"],
    ),
    "rate of nought": ("[0.001, 0.002]", "[0.0]", 11, ["learning_rate[0]", "greater than 0"]),
    "rate that is true": ("[0.001, 0.002]", "[true]", 11, ["learning_rate[0]", "True"]),
    "negative batch": ("[4]", "[-4]", 12, ["stages.sft.grid.batch_size[0]", "-4"]),
    "batch that is true": ("[4]", "[true]", 12, ["stages.sft.grid.batch_size[0]", "True"]),
    "batch of a list": ("[4]", "[[4]]", 12, ["stages.sft.grid.batch_size", "[4]", "numbers"]),
    "batch of nothing": ("[4]", "[null]", 12, ["stages.sft.grid.batch_size", "None"]),
    "name of two lines": ("name: small", 'name: "small\\nlarge"', 1, ["name", "small\\nlarge"]),
    "name that ends in a new line": ("name: small", 'name: "small\\n"', 1, ["name"]),
    "name of 300 letters": ("name: small", f"name: {'s' * 300}", 1, ["name"]),
    "name that is a path": ("name: small", "name: /tmp/small", 1, ["name", "'/tmp/small'"]),
    "name that is the folder above": ("name: small", "name: ..", 1, ["name", "'..'"]),
    "no name": ("name: small", "name: ''", 1, ["name", "''"]),
    "unknown metric of a search": (
        "resources:", "search: {method: optuna, trials: 2, objective: acc}\nresources:", 17,
        ["search.objective", "'acc'", "use one of heldout_loss, world_choice"],
    ),
    "fraction of an example": ("examples: 24", "examples: 2.5", 6, ["examples", "2.5"]),
    "object of Python": (
        "model: tiny", "model: !!python/object/apply:os.system [id]", 2, ["tag", "not allowed"],
    ),
    "range of a number beyond all": (
        "[0.001, 0.002]", "{log: [1, 1" + "0" * 400 + "], count: 3}", 11,
        ["stages.sft.grid.learning_rate", "is not a positive number"],
    ),
    "range beyond all numbers": (
        "[4]", "{log2: [1.0e-320, 1.0e+308]}", 12, ["stages.sft.grid.batch_size", "wider than"],
    ),
    "ratio that leads beyond all numbers": (
        "learning_rate: [0.001, 0.002]\n      batch_size: [4]",
        "learning_rate: [0.001]\n      ratio: [1.0e-320]", 12, ["stages.sft.grid.ratio", "whole"],
    ),
    "batch beyond all numbers": (
        "learning_rate: [0.001, 0.002]\n      batch_size: [4]",
        "ratio: [1.0e-5]\n      batch_size: [1" + "0" * 400 + "]", 11,
        ["stages.sft.grid.ratio", "is not a number"],
    ),
    "arm of another folder": (
        "    steps: 3", "    arms: [{name: .., set: {steps: 3}}]", 7, ["arms[0].name", "'..'"],
    ),
    "folder above as the name of a stage": ("  sft:", "  ..:", 4, ["stages...", "letters"]),
    "name of a stage of two lines": ("  sft:", '  "s\\nft":', 4, ["stages.s", "letters"]),
    "name of a stage of 300 letters": ("  sft:", f"  {'s' * 300}:", 4, ["stages.s", "at most 64"]),
    "ordered mapping": ("model: tiny", "model: !!omap [name: tiny]", 2, ["model"]),
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
