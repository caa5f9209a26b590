import json
import shutil
from pathlib import Path

import pytest

from analysis.tables import load
from analysis.tables.errors import ResultsError


def test_columns_are_those_of_the_schema_in_order(planted_run: Path) -> None:
    assert list(load.read(planted_run)) == list(load.COLUMNS)


def test_diverged_and_failed_cells_have_a_row_per_benchmark_without_a_value(run: Path) -> None:
    frame = load.read(run)
    for status, reason in (("diverged", "loss is nan at step 3"), ("failed", "MemoryError")):
        rows = frame[frame.status == status]
        assert len(rows) == 5 and rows.primary.all()
        assert rows.value.isna().all() and rows.reason.str.contains(reason).all()


def test_a_trial_never_started_has_no_rows(run: Path) -> None:
    assert "000000000007" not in set(load.read(run).key)


def test_the_base_model_has_no_axes(run: Path) -> None:
    base = load.read(run).query("stage == 'base'")
    assert base.learning_rate.isna().all() and (base.parent == "").all() and len(base) == 5


def test_a_trained_cell_whose_evaluation_failed_is_failed_there_only(run: Path) -> None:
    folder = run / "trials" / "sft-000000000000"
    (folder / "scores" / "0000.json").unlink()
    with (folder / "attempts.jsonl").open("a") as file:
        file.write('{"event": "failed", "phase": "evaluate", "reason": "killed"}\n{"event": "st')
    rows = load.read(run).query("key == '000000000000'").set_index("benchmark")
    assert rows.status.to_dict() == dict.fromkeys(rows.index, "ok") | {"world_choice": "failed"}
    assert rows.reason["world_choice"] == "killed"


def test_record_without_the_metric_that_counts_is_listed_as_what_it_was_recorded_as(
    run: Path,
) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    for evaluation in manifest["stages"]["sft"]["evaluations"]:
        if evaluation["benchmark"] == "heldout_loss":
            evaluation |= {"benchmark": "ranking_accuracy", "metric": "ranking_accuracy"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    there = load.read(run).query("stage == 'sft' and status == 'ok'")
    losses = there.loc[there.metric == "loss"]
    assert set(losses.benchmark) == {"heldout_loss"} and losses.primary.all()
    assert "ranking_accuracy" not in set(there.benchmark)


@pytest.mark.parametrize(
    ("mark", "said"), [("prompts", "prompts, as rendered"), ("documents", "items")]
)
def test_scores_of_other_items_or_prompts_are_refused_with_both_named(
    run: Path, mark: str, said: str
) -> None:
    paths = sorted(run.glob("trials/*/scores/0000.json"))
    for path in paths:
        record = json.loads(path.read_text())
        odd = path == paths[2]
        record["settings"] = {"prompts": "a", "documents": "b"} | ({mark: "odd"} if odd else {})
        path.write_text(json.dumps(record))
    with pytest.raises(load.ResultsError, match=said) as refused:
        load.read(run)
    for path in (paths[0], paths[2]):
        assert str(path.parent.parent) in str(refused.value)
    paths[2].unlink()
    assert len(load.read(run)), "as the message advises"


def test_a_foreign_table_needs_four_columns_only(tmp_path: Path) -> None:
    path = tmp_path / "wandb.csv"
    path.write_text(
        "learning_rate,batch_size,benchmark,value\n1e-3,8,arc,0.4\n1e-3,8,arc,0.5\n"
        "1e-3,16,eval_loss,nan\n"
    )
    frame = load.read(path)
    assert frame.seed.isna().all() and frame.key.nunique() == 3
    assert list(frame.status) == ["ok", "ok", "failed"]
    assert list(frame.higher_is_better) == [True, True, False]
    assert frame.lr_bs_ratio[0] == 1e-3 / 8


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rate,batch_size,benchmark,value\n1,1,a,1\n", "no column for the learning rate"),
        ("learning_rate,batch_size,benchmark,value\n-1,8,arc,1\n", "learning_rate is not above 0"),
        ("learning_rate,batch_size,benchmark,value\nx,8,arc,1\n", "'x' is not a number"),
        ("learning_rate,batch_size,benchmark,value,status\n1,8,arc,1,odd\n", "status is none of"),
        ("learning_rate,batch_size,benchmark,value\ninf,8,arc,1\n", "learning_rate: 'inf'"),
        ("learning_rate,batch_size,benchmark,value\n1e400,8,arc,1\n", "learning_rate: '1e400'"),
        ("learning_rate,batch_size,benchmark,value\n1,1e400,arc,1\n", "batch_size: '1e400'"),
        ("learning_rate,batch_size,seed,benchmark,value\n1,8,inf,arc,1\n1,8,1,arc,1\n", "seed"),
        ("learning_rate,batch_size,benchmark,value,stderr\n1,8,arc,1,inf\n", "stderr: 'inf'"),
        ("learning_rate,batch_size,benchmark,value,n\n1,8,arc,1,1e400\n", "n: 'inf'"),
        ("learning_rate,batch_size,benchmark,value\n1,8,arc,1\n2,8,,1\n", "row 2: the benchmark"),
    ],
)
def test_a_wrong_table_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(load.ResultsError, match=told):
        load.read(path)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(load.ResultsError, match="not a run folder"):
        load.read(tmp_path)


def test_record_that_is_no_text_is_refused_by_name(run: Path) -> None:
    file = run / "manifest.json"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(load.ResultsError, match=r"manifest\.json: not JSON"):
        load.read(run)


def test_another_axis_of_the_grid_is_an_arm_and_no_seed(run: Path) -> None:
    for path in sorted(run.glob("trials/sft-*/trial.json")):
        trial = json.loads(path.read_text())
        trial["spec"]["epochs"] = 1
        path.write_text(json.dumps(trial))
        again = path.parent.with_name(path.parent.name + "-3")
        shutil.copytree(path.parent, again)
        trial["spec"]["epochs"], trial["key"] = 3, trial["key"] + "x"
        (again / "trial.json").write_text(json.dumps(trial))
    frame = load.read(run)
    assert set(frame.arm[frame.stage == "sft"]) == {"epochs=1", "epochs=3"}
    assert set(frame.arm[frame.stage != "sft"]) == {""}


def test_table_without_a_column_is_refused(tmp_path):
    (tmp_path / "bars.csv").write_text("|")
    with pytest.raises(ResultsError, match="no columns"):
        load.read(tmp_path / "bars.csv")


def test_column_named_by_a_stroke_is_read_as_any_other(tmp_path):
    rows = "".join(f"{rate},{size},{rate * size}\n" for rate in (1e-5, 1e-4) for size in (8, 16))
    (tmp_path / "odd.csv").write_text("lr,/,eval/loss\n" + rows)
    read = load.read(tmp_path / "odd.csv")
    assert sorted(set(read.learning_rate)) == [1e-5, 1e-4]
    assert "loss" in set(read.benchmark)
