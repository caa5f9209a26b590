"""Grid files: what is wrong is said, all at once, with its place; what is right loads."""

import time

import pytest

from sweep import config
from sweep.config import GridError, expand

EPOCHS_TOO = "    steps: 3\n    epochs: 1"
BOTH_WARMUPS = "    warmup_ratio: 0.1\n    warmup_steps: 2"

BROKEN = {
    # id: (what is replaced, by what, the line of the problem, what its message has to hold)
    "unknown stage key": (
        "    steps: 3", "    stepps: 3", 7, ["stages.sft.stepps", "did you mean `steps`"],
    ),
    "unknown top key": (
        "resources:", "resorces:", 16, ["resorces", "did you mean `resources`"],
    ),
    "unknown key far from any": (
        "cpus_per_trial", "memory", 16, ["resources.memory", "use one of cpus_per_trial"],
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
    "value twice": ("[4]", "[4, 8, 4]", 12, ["stages.sft.grid.batch_size", "[4, 8, 4]", "twice"]),
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
    "no benchmark": ("[world_choice]", "[]", 14, ["evaluate.benchmarks", "[]", "at least 1"]),
    "no data file": ("world:sft", "mine.jsonl", 6, ["stages.sft.data", "no file 'mine.jsonl'"]),
    "data of unknown form": (
        "world:sft", "./mine.txt", 6, ["stages.sft.data", "'./mine.txt'", ".jsonl or .parquet"],
    ),
    "unknown world": (
        "world:sft", "world:dpo", 6, ["stages.sft.data", "'world:dpo'", "world:pretrain, world:sft"],
    ),
    "no model folder": ("model: tiny", "model: ./mine", 2, ["model", "'./mine'"]),
    "model of no form": ("model: tiny", "model: mine", 2, ["model", "'mine'", "`tiny`"]),
    "no data folder": (
        "  limit: 8", "  data_dir: nowhere", 15, ["evaluate.data_dir", "'nowhere'"],
    ),
    "no cpus": (
        "cpus_per_trial: 1", "cpus_per_trial: 0", 17, ["resources.cpus_per_trial", "greater than 0"],
    ),
    "a gpu and a half": (
        "cpus_per_trial: 1", "gpus_per_trial: 1.5", 17, ["gpus_per_trial", "whole number"],
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
    "date": ("name: small", "name: 2020-01-01", 1, ["name", "not a plain value"]),
    "bracket left open": ("name: small", "name: [small", 2, ["expected"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_problem_is_named_with_file_line_key_value_and_what_is_allowed(case, small, grid_file):
    old, new, line, said = BROKEN[case]
    assert old in small
    if line is not None and line > 15 and "limit" not in old:
        line -= 0
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


ABSENT_VALUES = ["name", "model", "stages", "evaluate", "resources"]
