"""The plan: what a trial's key hangs on, the order of trials, and what they will cost."""

import csv
import io
import json

import pytest
import yaml

from sweep.gridfile import load as config
from sweep.plan import trials as plan
from sweep.plan.trials import cost
from sweep.storage.run_folder import plan_csv

PINNED = """\
name: pinned
model: tiny
stages:
  sft:
    kind: sft
    data: world:sft
    learning_rate: 0.001
    batch_size: 8
evaluate: {benchmarks: [world_choice]}
"""


def keys(trials) -> list[str]:
    return [trial.key for trial in trials]


def test_key_of_a_known_trial_has_not_changed(planned):
    """Every run folder in use relies on it. Change this text only with a reason for users."""
    assert keys(planned(PINNED)) == ["6cac0cb2ea58", "7753b1a026fa"]


def test_keys_do_not_hang_on_the_order_in_the_file(planned, small):
    data = yaml.safe_load(small)
    stage = dict(reversed(data["stages"]["sft"].items()))
    stage["grid"] = dict(reversed(stage["grid"].items()))
    turned = dict(reversed(data.items())) | {"stages": {"sft": stage}}
    assert set(keys(planned(yaml.safe_dump(turned, sort_keys=False)))) == set(keys(planned(small)))


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "resources.cpus_per_trial=2",
        "resources.gpus_per_trial=0.5",
        "resources.threads_per_rank=2",
        "resources.max_concurrent=1",
        "resources.retries=5",
        "evaluate.benchmarks=[world_arithmetic]",
        "evaluate.limit=3",
        "evaluate.batch_size=1",
        "stages.sft.tokens_per_micro_batch=64",
        "stages.sft.seed=0",
        "stages.sft.schedule=linear",
        "stages.sft.start_from=base",
        "stages.sft.grid.learning_rate=[1.0e-3, 2.0e-3]",
        "model={name: tiny}",
    ],
)
def test_key_does_not_change_with(override, planned, small):
    assert keys(planned(small, override)) == keys(planned(small))


@pytest.mark.parametrize(
    "override",
    [
        "stages.sft.seed=1",
        "stages.sft.grid.learning_rate=[0.003, 0.004]",
        "stages.sft.grid.batch_size=[2]",
        "stages.sft.data.examples=23",
        "stages.sft.data.name=world:pretrain",
        "stages.sft.data.revision=abc",
        "stages.sft.steps=4",
        "stages.sft.schedule=cosine",
        "stages.sft.warmup_steps=1",
        "stages.sft.weight_decay=0.1",
        "stages.sft.max_grad_norm=0",
        "stages.sft.adam_beta2=0.99",
        "stages.sft.max_length=64",
        "stages.sft.loss_on=all",
        "stages.sft.heldout=7",
        "stages.sft.dtype=bfloat16",
    ],
)
def test_key_changes_with(override, planned, small):
    before, after = keys(planned(small)), keys(planned(small, override))
    assert before[0] == after[0], "the model as it is has been the same all along"
    assert not set(before[1:]) & set(after[1:])


@pytest.mark.parametrize(
    "override", ["model={name: a/b}", "model={name: tiny, revision: c}"], ids=str
)
def test_every_key_changes_with_the_model(override, planned, small):
    assert not set(keys(planned(small))) & set(keys(planned(small, override)))


def test_key_of_a_child_changes_with_its_parent(planned, chain):
    before = planned(chain)
    after = planned(chain, "stages.first.learning_rate=0.003")
    assert [t.stage for t in after] == ["base", "first", "second", "second"]
    assert not set(keys(before[1:])) & set(keys(after[1:]))


def test_key_of_a_parent_does_not_hang_on_its_children(planned, chain):
    before = planned(chain)
    assert keys(planned(chain, "stages.second.steps=9"))[:2] == keys(before)[:2]


def test_parents_come_before_children_though_the_file_has_them_last(planned, chain):
    data = yaml.safe_load(chain)
    data["stages"] = dict(reversed(data["stages"].items()))
    trials = planned(yaml.safe_dump(data, sort_keys=False))
    assert [trial.stage for trial in trials] == ["base", "first", "second", "second"]
    assert keys(trials) == keys(planned(chain))


def test_stages_form_a_graph_and_shared_parents_train_once(planned, chain):
    data = yaml.safe_load(chain)
    third = data["stages"]["second"] | {"start_from": "second", "steps": 2}
    data["stages"] |= {"third": third, "side": data["stages"]["second"] | {"seed": 1}}
    trials = planned(yaml.safe_dump(data, sort_keys=False))
    by_stage: dict[str, list] = {}
    for trial in trials:
        by_stage.setdefault(trial.stage, []).append(trial)
    assert {stage: len(found) for stage, found in by_stage.items()} == {
        "base": 1, "first": 1, "second": 2, "side": 2, "third": 4,
    }  # fmt: skip
    assert {t.parent for t in by_stage["first"]} == {by_stage["base"][0].key}
    assert {t.parent for t in by_stage["side"]} == {by_stage["first"][0].key}
    assert {t.parent for t in by_stage["third"]} == set(keys(by_stage["second"]))


def test_cells_that_differ_in_no_weight_are_planned_once(planned, small):
    axis = "      tokens_per_micro_batch: [64, 128]\n      batch_size"
    trials = planned(small.replace("      batch_size", axis))
    assert len(trials) == 3


def test_two_stages_that_ask_for_the_same_training_have_one_key_each(planned, chain):
    data = yaml.safe_load(chain)
    data["stages"]["again"] = data["stages"]["second"]
    trials = planned(yaml.safe_dump(data, sort_keys=False))
    assert len(set(keys(trials))) == len(trials), "a key names one trial of the plan"


def test_folders_differ_and_end_in_the_key(planned, chain):
    trials = planned(chain)
    assert len({trial.folder for trial in trials}) == len(trials)
    assert all(trial.folder.endswith(f"-{trial.key}") for trial in trials)


@pytest.mark.parametrize(
    ("overrides", "steps", "examples"),
    [
        # 24 rows less 8 held out are 16 to train on.
        (["stages.sft.steps=null"], 4, 16),
        (["stages.sft.steps=null", "stages.sft.grid.batch_size=[5]"], 4, 16),
        (["stages.sft.steps=null", "stages.sft.grid.batch_size=[5]", "stages.sft.epochs=2"], 8, 32),
        (["stages.sft.steps=null", "stages.sft.grid.batch_size=[5]", "stages.sft.epochs=1.5"],
         6, 16 + 5 + 5),
        (["stages.sft.steps=null", "stages.sft.grid.batch_size=[5]", "stages.sft.epochs=0.5"],
         2, 10),
        (["stages.sft.steps=null", "stages.sft.grid.batch_size=[16]"], 1, 16),
        (["stages.sft.steps=7", "stages.sft.grid.batch_size=[5]"], 7, 16 + 15),
        (["stages.sft.steps=3"], 3, 12),
        (["stages.sft.steps=4", "stages.sft.heldout=0"], 4, 16),
        (["stages.sft.steps=9", "stages.sft.heldout=0"], 9, 24 + 12),
    ],
    ids=lambda value: " ".join(value).replace("stages.sft.", "") if isinstance(value, list) else "",
)  # fmt: skip
def test_cost_equals_the_numbers_counted_by_hand(overrides, steps, examples, planned, small):
    trial = planned(small, *overrides)[1]
    assert (cost(trial).steps, cost(trial).examples) == (steps, examples)


def test_weights_take_four_bytes_a_parameter(planned, small, tiny):
    assert cost(planned(small)[1]).disk_bytes == 4 * tiny.model.num_parameters()


def test_the_model_as_it_is_costs_nothing(planned, small):
    assert cost(planned(small)[0]) == (0, 0, 0, 0)


def test_what_only_the_hub_knows_is_unknown(planned, small):
    hub = small.replace("{name: world:sft, examples: 24}", "someone/conversations")
    assert cost(planned(hub)[1]) == (3, None, *cost(planned(small)[1])[2:])
    assert cost(planned(hub, "stages.sft.steps=null")[1]).steps is None
    assert cost(planned(small, "model=a/b")[1]).disk_bytes is None


def test_plan_table_has_every_trial_with_its_cost(planned, small):
    lines = plan_csv(planned(small)).splitlines()
    assert lines[0] == (
        "key,parent,stage,arm,learning_rate,batch_size,lr_bs_ratio,seed,steps,examples,"
        "disk_bytes,folder"
    )
    base, first, _ = planned(small)
    assert lines[1] == f"{base.key},,base,,,,,,0,0,0,{base.folder}"
    disk = cost(first).disk_bytes
    assert lines[2] == (f"{first.key},{base.key},sft,,0.001,4,0.00025,0,3,12,{disk},{first.folder}")
    assert len(lines) == 4


def test_resolved_grid_loads_again_as_the_same_plan(load, small, tmp_path):
    from sweep.storage.run_folder import RunFolder

    overrides = ["stages.sft.grid.learning_rate={log: [1.0e-4, 1.0e-1], count: 5}", "model=a/b"]
    grid = load(small, *overrides)
    RunFolder(tmp_path / "run").write_plan(grid, plan.trials(grid))
    again = config.load(tmp_path / "run" / "grid.yaml")
    assert keys(plan.trials(again)) == keys(plan.trials(grid))
    assert again == grid


def test_plan_is_the_same_in_another_process(planned, command, grid_file, small, tmp_path):
    """No set order, no hash seed, no address goes into a key."""
    import subprocess
    import sys

    code = (
        "import json, sys; from pathlib import Path; "
        "from sweep.gridfile import load as config; from sweep.plan import trials as plan;"
        "print(json.dumps([t.key for t in plan.trials(config.load(Path(sys.argv[1])))]))"
    )
    here = keys(planned(small))
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "grid.yaml")],
        env={"PYTHONHASHSEED": "1", "PATH": ""},
        cwd=config.__file__.rpartition("/sweep/")[0],
        capture_output=True,
        text=True,
    )
    assert json.loads(run.stdout) == here, run.stderr


def test_weights_in_4_bits_are_another_training_and_none_is_the_one_without_the_key(planned, small):
    plain, whole, packed = (
        planned(small, f"stages.sft.adapter={{rank: 4{more}}}")[1].key
        for more in ("", ", base_weights: float32", ", base_weights: nf4")
    )
    assert plain == whole == "07229bdebc29"
    assert packed != plain


def test_further_axes_are_named_in_titles_and_in_the_plan_and_in_no_key(planned, small):
    plain = planned(small, "stages.sft.adapter={rank: 4}")
    swept = (
        "stages.sft.grid={learning_rate: [0.001], adapter.rank: [4, 16], weight_decay: [0, 0.1]}"
    )
    trials = planned(small, swept, "stages.sft.batch_size=4")
    trained = trials[1:]
    assert {trial.label for trial in trained} == {
        f"adapter.rank={rank}, weight_decay={decay}" for rank in (4, 16) for decay in (0.0, 0.1)
    }
    assert trained[0].title.endswith(f"seed 0 {trained[0].label}")
    assert "settings" not in trained[0].model_dump()
    assert plain[1].key in {trial.key for trial in trained}, "the same training as without the axis"
    assert plain[1].folder in {trial.folder for trial in trained}
    rows = list(csv.DictReader(io.StringIO(plan_csv(trials))))
    assert {row["arm"] for row in rows[1:]} == {trial.label for trial in trained}
