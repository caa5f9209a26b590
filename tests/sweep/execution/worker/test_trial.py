"""Trials for real, one after another in this process: what they record, and what they do again."""

import json
import math
import os
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from sweep.execution.worker import training
from sweep.storage.run_folder import TrialFolder
from trainers.specs.result import BudgetTooLarge, StageResult

HELPER = """\
def process_results(doc, results):
    BODY
"""
TASK = """\
task: mine
custom_dataset: !function helper.items
test_split: test
output_type: generate_until
doc_to_text: prompt
doc_to_target: prompt
generation_kwargs: {until: [], max_gen_toks: 2, do_sample: false}
process_results: !function helper.process_results
metric_list: [{metric: length, aggregation: mean, higher_is_better: true}]
"""
ITEMS = """\
from datasets import Dataset

def items(**_):
    return {"test": Dataset.from_list([{"prompt": "Say apple."}, {"prompt": "Say pear."}])}

"""

COLUMNS = [
    "key", "parent", "stage", "arm", "model", "model_parameters", "trained_parameters",
    "optimizer", "adapter", "learning_rate", "batch_size",
    "lr_bs_ratio", "seed", "status", "reason", "steps", "examples", "tokens", "epochs",
    "warmup_steps", "adam_beta2", "learning_rate_sum", "noise_scale", "train_seconds",
    "eval_seconds", "benchmark", "metric", "primary", "higher_is_better", "task_type", "value",
    "stderr", "n",
]  # fmt: skip


def trials(run) -> dict[str, TrialFolder]:
    """Folders of a run by stage and learning rate."""
    found = {}
    for file in sorted((run / "trials").glob("*/trial.json")):
        record = json.loads(file.read_text())
        rate = record["spec"] and record["spec"]["learning_rate"]
        found[f"{record['stage']} {rate:g}" if rate else record["stage"]] = TrialFolder(file.parent)
    return found


def starts(folder: TrialFolder) -> int:
    return sum(event["event"] == "started" for event in folder.attempts())


def times(run: Path) -> dict[str, int]:
    """When each record and each weight was written."""
    kinds = ("train.json", "metrics.jsonl", "attempts.jsonl", "*.safetensors", "scores/*")
    return {
        str(file): file.stat().st_mtime_ns
        for kind in kinds
        for file in run.glob(f"trials/*/**/{kind}")
    }


@pytest.fixture
def copied(chain_run, tmp_path) -> Path:
    """A copy of the run that has ended, to be changed."""
    return Path(shutil.copytree(chain_run.path, tmp_path / "chain"))


def fails(error: str) -> str:
    """The body of a task that scores one item, so that its trial passes, and raises at the next."""
    count = "process_results.calls = getattr(process_results, 'calls', 0) + 1"
    return f"{count}\n    if process_results.calls > 1: raise {error}\n    return {{'length': 1.0}}"


@pytest.fixture
def own_task(tmp_path, small):
    """A grid whose only benchmark is a task of the user's; `write(body)` sets what it does."""

    def write(body: str) -> str:
        tasks = tmp_path / "tasks"
        tasks.mkdir(exist_ok=True)
        (tasks / "mine.yaml").write_text(TASK)
        (tasks / "helper.py").write_text(ITEMS + HELPER.replace("BODY", body))
        text = small.replace("[world_choice]", f"[{tasks / 'mine.yaml'}]")
        text = text.replace("cpus_per_trial: 1", "retries: 0")
        return text.replace("[0.001, 0.002]", "[0.001]")

    return write


def test_run_with_a_diverged_trial_ends_well(chain_run):
    assert chain_run.code == 0
    assert "3 ok  1 diverged" in chain_run.output
    assert set(trials(chain_run.path)) == {"base", "first 0.001", "second 0.001", "second 100"}


def test_trial_record_says_what_was_asked_for(chain_run):
    folder = trials(chain_run.path)["second 0.001"]
    record = json.loads((folder.path / "trial.json").read_text())
    parent = json.loads((trials(chain_run.path)["first 0.001"].path / "trial.json").read_text())
    assert folder.path.name.endswith(record["key"])
    assert record["parent"] == parent["key"]
    assert (record["stage"], record["arm"], record["kind"]) == ("second", "", "sft")
    assert record["model"] == "tiny"
    assert record["spec"]["batch_size"] == 4
    assert record["spec"]["seed"] == 0


def test_base_is_a_trial_without_a_spec_and_without_a_copy_of_the_model(chain_run):
    folder = trials(chain_run.path)["base"]
    record = json.loads((folder.path / "trial.json").read_text())
    assert (record["parent"], record["kind"], record["spec"]) == (None, "base", None)
    assert folder.training()["steps"] == 0
    assert not folder.model.exists()


def test_training_record_has_its_figures(chain_run, tiny):
    record = trials(chain_run.path)["second 0.001"].training()
    assert (record["status"], record["reason"]) == ("ok", "")
    assert (record["steps"], record["examples"], record["epochs"]) == (4, 16, 1.0)
    assert record["model_parameters"] == tiny.model.num_parameters()
    assert record["learning_rate_sum"] == pytest.approx(0.001 * (4 + 3 + 2 + 1) / 4)
    assert {
        "tokens", "warmup_steps", "adam_beta2", "train_seconds", "final_loss",
    } <= record.keys()  # fmt: skip


def test_attempts_have_a_start_and_an_end(chain_run):
    for folder in trials(chain_run.path).values():
        started, done = folder.attempts()
        assert (started["event"], done["event"]) == ("started", "done")
        assert started["attempt"] == done["attempt"] == 1
        assert done["seconds"] > 0


def test_each_wanted_evaluation_has_its_score_and_its_items(chain_run):
    manifest = json.loads((chain_run.path / "manifest.json").read_text())
    for name, folder in trials(chain_run.path).items():
        wanted = manifest["stages"][name.split()[0]]["evaluations"]
        if name == "second 100":
            assert not (folder.path / "scores").exists()
            continue
        for want in wanted:
            record = json.loads(folder.scores(want["fingerprint"]).read_text())
            assert record["benchmark"] == want["benchmark"]
            assert record["fingerprint"] == want["fingerprint"]
            assert record["eval_seconds"] > 0
            (primary,) = [score for score in record["scores"] if score["primary"]]
            assert primary["metric"] == want["metric"]
            assert primary["higher_is_better"] == want["higher_is_better"]
            items = pd.read_parquet(folder.path / "scores" / f"{want['fingerprint']}.parquet")
            mine = items[items.metric == primary["metric"]]
            assert len(mine) == primary["n"] == 8
            assert mine.value.mean() == pytest.approx(primary["value"])
        assert len(list((folder.path / "scores").iterdir())) == 2 * len(wanted)


def test_items_are_the_same_in_every_trial(chain_run):
    seen = {}
    for folder in trials(chain_run.path).values():
        for file in (folder.path / "scores").glob("*.parquet"):
            seen.setdefault(file.name, set()).add(tuple(pd.read_parquet(file)["item"]))
    assert len(seen) >= 3
    assert all(len(orders) == 1 for orders in seen.values())


def test_manifest_says_with_what_and_on_what(chain_run):
    manifest = json.loads((chain_run.path / "manifest.json").read_text())
    assert manifest["name"] == "chain"
    assert {"created", "git_commit", "hardware"} <= manifest.keys()
    assert {"torch", "trl", "transformers", "lm_eval", "ray"} <= manifest["packages"].keys()
    (data,) = manifest["data"].values()
    assert data
    benchmarks = {
        stage: [want["benchmark"] for want in part["evaluations"]]
        for stage, part in manifest["stages"].items()
    }
    assert benchmarks == {
        "base": ["world_choice", "world_arithmetic", "heldout_loss@first"],
        "first": ["world_choice", "world_arithmetic", "heldout_loss", "heldout_loss@second"],
        "second": ["world_choice", "world_arithmetic", "heldout_loss"],
    }


def test_child_starts_from_its_parents_weights(chain_run):
    """The slice that is held out is the same in both stages, so the two losses compare."""
    folders = trials(chain_run.path)
    first = folders["first 0.001"].training()
    second = folders["second 0.001"].training()
    assert second["first_loss"] < first["first_loss"]


def test_diverged_trial_is_a_result_with_a_reason_and_no_weights(chain_run):
    folder = trials(chain_run.path)["second 100"]
    record = folder.training()
    assert record["status"] == "diverged"
    assert "step" in record["reason"]
    assert record["steps"] <= 4
    assert not folder.model.exists()
    assert folder.attempts()[-1]["event"] == "done"


def test_table_has_the_contracts_columns_and_rows(chain_run):
    table = pd.read_csv(chain_run.path / "results.csv")
    assert list(table.columns) == COLUMNS
    assert list(pd.read_parquet(chain_run.path / "results.parquet").columns) == COLUMNS
    assert set(table[table.stage == "base"].status) == {"ok"}
    diverged = table[table.status == "diverged"]
    assert len(diverged) == 3
    assert diverged.value.isna().all()
    assert diverged.reason.str.contains("step").all()
    assert (table[table.learning_rate == 0.001].lr_bs_ratio == 0.001 / 4).all()
    assert math.isclose(table[table.learning_rate == 100].lr_bs_ratio.iloc[0], 25)


def test_failed_rows_have_the_metric_of_the_others(chain_run):
    """Or the table has two metrics for one benchmark, one of them without a name."""
    table = pd.read_csv(chain_run.path / "results.csv", keep_default_na=False)
    for _, rows in table[table.primary].groupby("benchmark"):
        assert rows.metric.nunique() == 1


def test_plan_and_grid_are_kept(chain_run):
    planned = pd.read_csv(chain_run.path / "plan.csv")
    folders = {path.name for path in (chain_run.path / "trials").iterdir()}
    assert set(planned.folder) == folders
    assert (chain_run.path / "grid.yaml").exists()
    assert (chain_run.path / "report" / "index.html").exists()


def test_second_run_trains_nothing_and_evaluates_nothing(copied, chain, drive):
    before = times(copied)
    table = (copied / "results.csv").read_bytes()
    again = drive(chain, copied)
    assert again.code == 0
    assert "4 of 4 models done, 0 to go" in again.output
    assert times(copied) == before
    assert (copied / "results.csv").read_bytes() == table


def test_lost_score_alone_is_made_anew(copied, chain, drive):
    folder = trials(copied)["first 0.001"]
    lost = sorted((folder.path / "scores").glob("*.json"))[0]
    content = json.loads(lost.read_text())
    lost.unlink()
    before = times(copied)
    assert drive(chain, copied).code == 0
    changed = {Path(path) for path, when in times(copied).items() if before.get(path) != when}
    assert changed == {lost, lost.with_suffix(".parquet"), folder.path / "attempts.jsonl"}
    assert json.loads(lost.read_text())["scores"] == content["scores"]


def test_new_benchmark_is_scored_without_training(copied, chain, drive):
    before = times(copied)
    grid = chain.replace("world_arithmetic]", "world_arithmetic, world_continuation]")
    assert drive(grid, copied).code == 0
    changed = {Path(path) for path, when in times(copied).items() if before.get(path) != when}
    assert {path.name for path in changed if path.parent.name != "scores"} == {"attempts.jsonl"}
    table = pd.read_csv(copied / "results.csv")
    assert (table[table.benchmark == "world_continuation"].metric == "acc").sum() == 4


def test_new_benchmark_names_the_cells_without_weights_and_scores_the_others(copied, chain, drive):
    """Not the model that the grid started from in their place, either."""
    first, second = (trials(copied)[name] for name in ("first 0.001", "second 0.001"))
    shutil.rmtree(second.model)
    grid = chain.replace("world_arithmetic]", "world_arithmetic, world_continuation]")
    ended = drive(grid, copied)
    assert ended.code == 3
    key = second.path.name.split("-")[-1]
    (told,) = [line for line in ended.output.splitlines() if "no weights are left" in line]
    assert told.startswith("world_continuation: ")
    assert key in told
    assert first.path.name.split("-")[-1] not in told
    assert ended.output.index(told) < ended.output.index("to go"), "before anything runs"
    table = pd.read_csv(copied / "results.csv")
    rows = table[(table.benchmark == "world_continuation") & (table.metric == "acc")]
    assert list(rows.stage + " " + rows.status) == [
        "base ok", "first ok", "second failed", "second diverged",
    ]  # fmt: skip
    assert rows.reason[rows.status == "failed"].str.contains("weights were not kept").all()
    assert second.training()["status"] == "ok"
    assert starts(second) == 1
    assert drive(chain, copied).code == 0, "without the new benchmark nothing is missing"


def test_record_scored_on_other_prompts_is_refused_in_the_end(copied, chain, drive):
    records = (trials(copied)["first 0.001"].path / "scores").glob("*.json")
    path = next(path for path in records if '"world_choice"' in path.read_text())
    record = json.loads(path.read_text())
    record["settings"]["prompts"] = "other"
    path.write_text(json.dumps(record))
    ended = drive(chain, copied)
    assert ended.code == 4
    assert "cannot stand in one column" in ended.output


def test_new_rate_runs_only_itself(copied, chain, drive):
    before = times(copied)
    assert drive(chain.replace("[0.001, 100]", "[0.001, 0.002, 100]"), copied).code == 0
    kept = {path: when for path, when in times(copied).items() if path in before}
    assert kept == before
    assert starts(trials(copied)["second 0.002"]) == 1


def test_lost_training_record_is_trained_anew_with_the_same_weights(copied, chain, drive):
    folder = trials(copied)["second 0.001"]
    weights = (folder.model / "model.safetensors").read_bytes()
    (folder.path / "train.json").unlink()
    assert drive(chain, copied).code == 0
    assert (folder.model / "model.safetensors").read_bytes() == weights
    assert starts(folder) == 2


def test_trial_that_was_cut_off_before_its_record_is_trained_anew(copied, chain, drive):
    """Killed between the weights and train.json, with leftovers of the one before."""
    folder = trials(copied)["second 0.001"]
    shutil.rmtree(folder.path / "scores")
    (folder.path / "train.json").unlink()
    (folder.path / ".model.1.part").mkdir()
    (folder.model / "model.safetensors").write_bytes(b"half")
    assert drive(chain, copied).code == 0
    assert folder.training()["status"] == "ok"


def test_failing_evaluation_leaves_the_training_and_is_repaired_without_it(
    own_task, drive, tmp_path
):
    run = tmp_path / "run"
    broken = drive(own_task(fails("ValueError('the task is broken')")), run)
    assert broken.code == 3
    assert "the task is broken" in broken.output
    folder = trials(run)["sft 0.001"]
    assert folder.training()["status"] == "ok"
    event = folder.attempts()[-1]
    assert (event["event"], event["phase"]) == ("failed", "evaluate")
    assert "ValueError: the task is broken" in event["reason"]
    table = pd.read_csv(run / "results.csv")
    failed = table[(table.benchmark == "mine") & (table.stage == "sft")]
    assert list(failed.status) == ["failed"]
    assert "the task is broken" in failed.reason.iloc[0]
    scored = table[(table.benchmark == "heldout_loss") & (table.stage == "sft")]
    assert list(scored.status) == ["ok"], "one evaluation that fails does not keep the others"

    before = times(run)
    repaired = own_task("return {'length': len(results[0])}")
    assert drive(repaired, run, "--retry-failed").code == 0
    after = times(run)
    training = [p for p in before if Path(p).name in ("train.json", "metrics.jsonl")]
    assert training
    assert all(after[path] == before[path] for path in training)
    table = pd.read_csv(run / "results.csv")
    assert set(table.status) == {"ok"}
    assert "failed" not in set(table[table.benchmark == "mine"].status)


KILLED_ONCE = """\
import os, signal
    from pathlib import Path
    run, marker = Path({run!r}), Path({run!r} + ".killed")
    if not marker.exists() and list(run.glob("trials/sft-*/train.json")):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {{"length": 1.0}}"""


@pytest.mark.slow
def test_killed_during_an_evaluation_it_is_evaluated_and_not_trained_again(
    own_task, grid_file, command, tmp_path
):
    run = tmp_path / "runs" / "small"
    grid = grid_file(own_task(KILLED_ONCE.format(run=str(run))))
    assert command(grid, "--local").returncode == -signal.SIGKILL
    folder = trials(run)["sft 0.001"]
    before = {path: at for path, at in times(run).items() if "scores" not in path}
    assert str(folder.path / "train.json") in before
    assert not list(folder.path.glob("scores/*.json"))
    again = command(grid, "--local")
    assert again.returncode == 0, again.stdout + again.stderr
    after = times(run)
    untouched = {path for path in before if after[path] == before[path]}
    assert {Path(path).name for path in before.keys() - untouched} == {"attempts.jsonl"}
    assert set(pd.read_csv(run / "results.csv").status) == {"ok"}
    first, second = (event for event in folder.attempts() if event["event"] == "started")
    assert first["previous_sign"] is None and second["previous_sign"] is not None


@pytest.mark.slow
def test_failed_trial_is_tried_again_as_often_as_asked(own_task, drive, tmp_path):
    grid = own_task(fails("ValueError('broken')")).replace("retries: 0", "retries: 1")
    assert drive(grid, tmp_path / "run").code == 3
    folder = trials(tmp_path / "run")["sft 0.001"]
    assert starts(folder) == 2
    assert [e["attempt"] for e in folder.attempts() if e["event"] == "failed"] == [1, 2]
    again = drive(grid, tmp_path / "run")
    assert again.code == 3, "what failed stays failed"
    assert "--retry-failed" in again.output
    assert starts(folder) == 2
    assert drive(grid, tmp_path / "run", "--retry-failed").code == 3
    assert starts(folder) == 4


@pytest.mark.slow
def test_evaluation_has_the_cpus_of_its_trial_and_not_the_threads_of_the_training(
    own_task, drive, tmp_path
):
    grid = own_task("import torch; return {'length': torch.get_num_threads()}")
    grid = grid.replace("retries: 0", "cpus_per_trial: 1, threads_per_rank: 2")
    assert drive(grid, tmp_path / "run").code == 0
    table = pd.read_csv(tmp_path / "run" / "results.csv").query("metric == 'length'")
    assert set(table.value) == {1.0}


@pytest.mark.slow
def test_trial_that_failed_and_was_repaired_gets_new_benchmarks_too(own_task, drive, tmp_path):
    assert drive(own_task(fails("ValueError")), tmp_path / "run").code == 3
    repaired = own_task("return {'length': len(results[0])}")
    assert drive(repaired, tmp_path / "run", "--retry-failed").code == 0
    more = repaired.replace("mine.yaml]", "mine.yaml, world_choice]")
    assert drive(more, tmp_path / "run").code == 0


def test_data_that_cannot_be_used_stops_the_command_before_any_trial(chain, drive, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "a"}\n' * 12)
    data = yaml.safe_load(chain)
    data["stages"]["second"]["data"] = {"name": str(bad)}
    ended = drive(yaml.safe_dump(data), tmp_path / "run")
    assert ended.code == 4
    assert not any(folder.attempts() for folder in trials(tmp_path / "run").values())


def test_failed_parent_blocks_its_children_with_a_reason(chain, drive, tmp_path):
    data = yaml.safe_load(chain) | {"limits": {"max_trial_hours": 1e-9}}
    data["resources"] = {"retries": 0}
    ended = drive(yaml.safe_dump(data), tmp_path / "run")
    assert ended.code == 3
    folders = trials(tmp_path / "run")
    assert "over the time limit" in folders["first 0.001"].attempts()[-1]["reason"]
    for name in ("second 0.001", "second 100"):
        (event,) = folders[name].attempts()
        assert event["event"] == "failed"
        assert "no usable weights" in event["reason"]
        assert folders["first 0.001"].path.name.split("-")[-1] in event["reason"]
        assert folders[name].training() is None
    table = pd.read_csv(tmp_path / "run" / "results.csv")
    assert set(table[table.stage == "second"].status) == {"failed"}
    assert table[table.stage == "second"].reason.str.contains("no usable weights").all()


def test_diverged_parent_blocks_its_children_with_a_reason(chain, drive, tmp_path):
    grid = chain.replace("    learning_rate: 0.001\n", "    learning_rate: 100\n")
    ended = drive(grid.replace("steps: 3", "steps: 6"), tmp_path / "run")
    folders = trials(tmp_path / "run")
    assert folders["first 100"].training()["status"] == "diverged"
    reason = folders["second 0.001"].attempts()[-1]["reason"]
    assert "diverged and has no usable weights" in reason
    assert ended.code == 3
    assert "--retry-failed" not in ended.output and "log.txt" not in ended.output


def damaged_checkpoint(folder: TrialFolder) -> None:
    import torch

    from trainers.steps import checkpoints

    path = checkpoints.save(folder.checkpoints, 2, {"weight": torch.zeros(3)}, {"step": 2})
    (path / checkpoints.STATE).write_text("{}")


def test_damaged_checkpoint_is_never_a_silent_fresh_start(copied, chain, drive):
    """The trial starts from the beginning, says so, and leaves no checkpoint behind."""
    folder = trials(copied)["second 0.001"]
    weights = (folder.model / "model.safetensors").read_bytes()
    (folder.path / "train.json").unlink()
    damaged_checkpoint(folder)
    assert drive(chain, copied).code == 0
    events = folder.attempts()
    names = [event["event"] for event in events]
    assert names == ["started", "done", "started", "refused", "restarted", "done"]
    assert "step-00000002: state.json is not what was written" in events[3]["checkpoint"]
    assert not folder.checkpoints.exists()
    assert (folder.model / "model.safetensors").read_bytes() == weights


def test_resuming_is_noted_with_its_step_and_what_was_refused(tmp_path):
    import torch

    from trainers.steps import checkpoints

    folder = TrialFolder(tmp_path)
    training.note_checkpoints(folder)
    assert folder.attempts() == []
    checkpoints.save(folder.checkpoints, 1, {"weight": torch.zeros(3)}, {"step": 1})
    damaged_checkpoint(folder)
    training.note_checkpoints(folder)
    refused, resumed = folder.attempts()
    assert (refused["event"], resumed["event"], resumed["step"]) == ("refused", "resumed", 1)


@pytest.mark.slow
def test_trial_on_two_processes_ends_with_the_weights_of_one(small, drive, tiny, tmp_path):
    text = small.replace("[0.001, 0.002]", "[0.001]").replace("    steps: 3", "    steps: 8")
    found = []
    for name, resources in (
        ("one", "cpus_per_trial: 1"),
        ("two", "cpus_per_trial: 2, ranks_per_trial: 2"),
    ):
        ended = drive(text.replace("cpus_per_trial: 1", resources), tmp_path / name)
        assert ended.code == 0, ended.output
        (folder,) = (one for key, one in trials(ended.path).items() if key != "base")
        found.append((folder.training(), load_file(folder.model / "model.safetensors")))
    (one, of_one), (two, of_two) = found
    same = ("steps", "examples", "tokens", "loss_tokens", "learning_rate_sum")
    assert [two[name] for name in same] == [one[name] for name in same]
    assert two["final_loss"] == pytest.approx(one["final_loss"], abs=1e-4)
    start = tiny.model.state_dict()
    moved = sum(float((of_one[name] - start[name]).square().sum()) for name in of_one)
    apart = sum(float((of_one[name] - of_two[name]).square().sum()) for name in of_one)
    assert 0 < apart < 1e-8 * moved, "not bit for bit: two processes add in another order"


@pytest.mark.slow
def test_sharded_trial_leaves_the_records_and_the_model_of_a_plain_one(drive, small, tmp_path):
    """Out of memory in one of its processes it starts again with half the budget."""
    text = small.replace("[0.001, 0.002]", "[0.001]").replace("    steps: 3", "    steps: 8")
    found = []
    for name, resources in (
        ("one", "cpus_per_trial: 1"),
        ("two", "cpus_per_trial: 2, ranks_per_trial: 2, sharding: full"),
    ):
        ended = drive(text.replace("cpus_per_trial: 1", resources), tmp_path / name)
        assert ended.code == 0, ended.output
        (folder,) = (one for key, one in trials(ended.path).items() if key != "base")
        found.append(folder)
    one, two = found
    assert one.path.name == two.path.name, "the key is the same"
    files = [{file.name for file in folder.model.iterdir()} for folder in found]
    assert files[0] == files[1]
    for name in files[0] - {"model.safetensors"}:
        assert (one.model / name).read_bytes() == (two.model / name).read_bytes(), name
    weights = [load_file(folder.model / "model.safetensors") for folder in found]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        assert float((weights[1][name] - weight).norm()) < 1e-5 * float(weight.norm()), name
    records = [folder.training() for folder in found]
    assert records[1].keys() - records[0].keys() == {"sharding"}
    assert records[1]["final_loss"] == pytest.approx(records[0]["final_loss"], abs=1e-5)


def fits_a_quarter(job, deadline, this, halvings: int) -> StageResult:
    """In each of two processes, of which the second runs out of memory."""
    if halvings < 2 and os.environ["RANK"] == "1":
        raise BudgetTooLarge(f"with 1/{2**halvings} of the budget")
    if halvings < 2:
        time.sleep(600)
    return StageResult("ok", "", {"halvings": halvings})


@pytest.mark.slow
def test_processes_of_which_one_runs_out_of_memory_start_again_with_half(monkeypatch, tmp_path):
    monkeypatch.setattr(training, "_fit", fits_a_quarter)
    folder = TrialFolder(tmp_path)
    ended = training.run(SimpleNamespace(ranks=2, nodes=1), folder, math.inf)  # type: ignore[arg-type]
    assert ended == StageResult("ok", "", {"halvings": 2})
    events = [(event["event"], event["reason"]) for event in folder.attempts()]
    assert events == [("halved", f"with {share} of the budget") for share in ("1/1", "1/2")]
    assert folder.memory_kills() == 2, "so many halvings has the next attempt, after a preemption"


def test_full_disk_fails_the_trial_with_its_path_and_does_not_count_against_it(
    small, drive, tmp_path
):
    """The limit on a file's size stands in for the disk: weights are larger than records."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    run = tmp_path / "run"
    grid = small.replace("[0.001, 0.002]", "[0.001]")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        ended = drive(grid, run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ended.code == 3
    folder = trials(run)["sft 0.001"]
    assert f"no room in {folder.path}" in ended.output
    assert folder.failed()
    assert folder.failures() == 0
    assert drive(grid, run).code == 0, "the same command continues, without --retry-failed"
