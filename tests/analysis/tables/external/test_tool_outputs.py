"""Folders of runs as lm-eval, the HF Trainer, Ray Tune and W&B leave them: one table comes out."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from analysis.report.__main__ import main
from analysis.tables import load
from analysis.tables.errors import ResultsError
from analysis.tables.external.tool_files import SETTINGS, TOOL_FILES, TOOLS
from analysis.tables.options import ReadOptions
from analysis.tables.schema import Table


def write(path: Path, content: Any, lines: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = content if lines else [content]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def evaluated(folder: Path, accuracy: float, **more: Any) -> None:
    """As lm-eval itself writes it."""
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.model_name_sanitized = "__work__out"
    scores = {"alias": "arc_easy", "acc,none": accuracy, "acc_stderr,none": 0.01}
    results = {
        "results": {"arc_easy": scores} | more.pop("results", {}),
        "n-samples": {"arc_easy": {"original": 200, "effective": 100}},
        "configs": {"arc_easy": {}},
        "versions": {},
        "config": {"model": "hf"},
    }
    tracker.save_results_aggregated(results=results | more, samples=None)


def name(rate: float, size: int) -> str:
    return f"sft_lr{rate:g}_bs{size}"


def read(folder: Path, **options: Any) -> Table:
    return load.read_table(folder, ReadOptions(**options))


def same(sweep, frame, benchmark: str = "eval_loss") -> None:
    rows = frame[frame.benchmark == benchmark].sort_values(["learning_rate", "batch_size"])
    for column in ("learning_rate", "batch_size"):
        assert list(rows[column]) == list(sweep[column])
    assert list(rows.value) == list(sweep["eval/loss"])
    assert (rows.status == "ok").all() and not rows.seed.any()


@pytest.mark.parametrize("below", ["", "lm_eval"])
def test_scores_of_lm_eval_stand_beside_the_losses_of_the_trainer(below, sweep, tmp_path):
    for rate, size, loss in sweep.itertuples(index=False):
        run = tmp_path / "out" / name(rate, size)
        write(run / "all_results.json", {"eval_loss": loss, "train_loss": 1.0, "eval_runtime": 9.0})
        write(run / "eval_results.json", {"eval_loss": loss, "eval_runtime": 9.0})
        evaluated(run / below, 1 - loss / 4)
    table = read(tmp_path / "out")
    same(sweep, table.frame)
    arc = table.frame[table.frame.benchmark == "arc_easy"]
    assert len(arc) == 20 and set(arc.metric) == {"acc"} and arc.higher_is_better.all()
    assert set(arc.stderr) == {0.01} and set(arc.n) == {100}
    assert table.notes[0] == (
        "20 folders with results of lm-eval and the HF Trainer, each read as a run"
    )
    assert "learning_rate, batch_size from the names in run_name" in table.notes


def test_trials_of_ray_tune_have_their_settings_with_them(sweep, tmp_path):
    for number, (rate, size, loss) in enumerate(sweep.itertuples(index=False)):
        trial = tmp_path / "exp" / f"train_{number:05}"
        settings = {"lr": rate, "batch_size": size}
        write(trial / "params.json", settings)
        steps = [{"eval_loss": loss + left, "training_iteration": 3 - left, "config": settings}
                 for left in (2, 1, 0)]  # fmt: skip
        write(trial / "result.json", steps, lines=True)
    write(tmp_path / "exp" / "experiment_state-2026.json", {"trial_data": []})
    same(sweep, read(tmp_path).frame)


def test_runs_of_wandb_have_their_settings_in_yaml(sweep, tmp_path):
    for number, (rate, size, loss) in enumerate(sweep.itertuples(index=False)):
        files = tmp_path / "wandb" / f"run-20260101_0{number:05}-abc" / "files"
        write(files / "wandb-summary.json", {"eval_loss": loss, "_runtime": 5, "_step": 90})
        text = (
            f"learning_rate:\n  value: {rate}\ntrain_batch_size:\n  value: {size}\n_wandb: {{}}\n"
        )
        (files / "config.yaml").write_text(text)
    same(sweep, read(tmp_path).frame)


def test_a_script_of_ones_own_may_write_settings_and_scores_in_one_file(sweep, tmp_path):
    for number, (rate, size, loss) in enumerate(sweep.itertuples(index=False)):
        row = {"lr": rate, "bs": size, "eval_loss": loss, "history": [3.0, loss]}
        write(tmp_path / f"{number:03}" / "results.json", row)
    table = read(tmp_path)
    same(sweep, table.frame)
    assert table.notes[0] == "20 folders with results of results.json, each read as a run"


def test_settings_hold_for_all_runs_below_them(sweep, tmp_path):
    for rate, size, loss in sweep.itertuples(index=False):
        (tmp_path / f"{rate}").mkdir(exist_ok=True)
        (tmp_path / f"{rate}" / "args.yaml").write_text(f"peak_lr: {rate}\n")
        write(tmp_path / f"{rate}" / f"{size}" / "params.json", {"batch_size": size})
        write(tmp_path / f"{rate}" / f"{size}" / "eval_results.json", {"eval_loss": loss})
    same(sweep, read(tmp_path).frame)


def test_of_checkpoints_the_last_and_of_evaluations_the_newest_count(sweep, tmp_path):
    for rate, size, loss in sweep.itertuples(index=False):
        run = tmp_path / name(rate, size)
        for step, worse in ((90, 1.0), (200, 0.0)):
            log = [{"step": step, "loss": 3.0, "learning_rate": 1e-9}, {"eval_loss": loss + worse}]
            write(run / f"checkpoint-{step}" / "trainer_state.json", {"log_history": log})
    table = read(tmp_path)
    same(sweep, table.frame)
    assert "20 files of older results left out: the newest of a run count" in table.notes


@pytest.mark.parametrize("folder", ["{}/step_{}", "{}/global_step{}", "{}/ckpt-{}",
                                    "out__{}__checkpoint-{}", "out__{}__step_{}"])  # fmt: skip
def test_a_folder_of_a_checkpoint_is_no_run_of_its_own(folder, sweep, tmp_path):
    for rate, size, loss in sweep.itertuples(index=False):
        for step in (90, 200):
            run = tmp_path / folder.format(name(rate, size), step)
            write(run / "metrics.json", {"eval_loss": loss + (step == 90)})
    table = read(tmp_path)
    same(sweep, table.frame)
    assert "20 files of older results left out: the newest of a run count" in table.notes


def test_the_finished_model_counts_before_its_checkpoints(sweep, tmp_path):
    for rate, size, loss in sweep.itertuples(index=False):
        run = tmp_path / name(rate, size)
        for folder, worse in (("checkpoint-200", 1.0), ("", 0.0)):
            write(run / folder / "eval_results.json", {"eval_loss": loss + worse})
    same(sweep, read(tmp_path).frame)


def test_a_group_counts_as_a_whole_and_directions_are_those_of_the_task(sweep, tmp_path):
    for rate, size, loss in sweep.itertuples(index=False):
        evaluated(
            tmp_path / name(rate, size),
            0.5,
            results={
                "mine": {"oddness,none": loss},
                "mmlu": {"acc,none": 0.3, "alias": "mmlu"},
                "mmlu_law": {"acc,none": 0.2},
            },
            higher_is_better={"mine": {"oddness": False}},
            group_subtasks={"mmlu": ["mmlu_law"], "arc_easy": []},
        )
    frame = read(tmp_path).frame
    assert set(frame.benchmark) == {"arc_easy", "mine", "mmlu"}
    assert not frame[frame.benchmark == "mine"].higher_is_better.any()
    turned = read(tmp_path, directions={"mine": "max"}).frame
    assert turned[turned.benchmark == "mine"].higher_is_better.all()


def test_a_group_without_a_score_of_its_own_is_its_parts(sweep, tmp_path):
    for rate, size, loss in sweep.itertuples(index=False):
        results = {
            "japanese": {"alias": "japanese", " ": " "},
            "jnli": {"acc,none": loss / 4, "acc_stderr,none": 0.02, "sample_len": 7},
        }
        groups = {"japanese": ["jnli"], "arc_easy": []}
        evaluated(tmp_path / name(rate, size), 0.5, results=results, group_subtasks=groups)
    frame = read(tmp_path).frame
    assert set(frame.benchmark) == {"arc_easy", "jnli"} and set(frame.metric) == {"acc"}


@pytest.mark.parametrize(
    ("results", "beside", "tool", "scored"),
    [
        ({"gsm8k": 0.2, "arc": 0.3}, {"config": {"seed": 1}}, "results.json", {"gsm8k", "arc"}),
        ({"gsm8k": {"acc": 0.2, "acc_stderr": 0.01}}, {"versions": {}}, "lm-eval", {"gsm8k"}),
        (
            {"leaderboard|arc:challenge|25": {"acc": 0.4, "acc_stderr": 0.01}, "all": {"acc": 0.4},
             "lighteval|mmlu:_average|5": {"acc": 0.3}, "lighteval|mmlu:law|5": {"acc": 0.2}},
            {"config_general": {}, "versions": {}},
            "LightEval",
            {"arc_challenge", "lighteval|mmlu:_average|5"},
        ),
    ],
)  # fmt: skip
def test_results_by_task_need_no_name_of_a_filter(results, beside, tool, scored, sweep, tmp_path):
    for rate, size, _ in sweep.itertuples(index=False):
        write(tmp_path / name(rate, size) / "results.json", {"results": results} | beside)
    table = read(tmp_path)
    assert table.notes[0] == f"20 folders with results of {tool}, each read as a run"
    assert set(table.frame.benchmark) == scored and (table.frame.status == "ok").all()
    assert set(table.frame.stderr.dropna()) <= {0.01}


def test_a_trainer_with_several_evaluation_sets_has_a_loss_for_each(sweep, tmp_path):
    for rate, size, loss in sweep.itertuples(index=False):
        log = [
            {"eval_code_loss": 9.0, "step": 5},
            {"eval_math_loss": 9.0, "eval_old_loss": 9.0, "step": 5},
            {"loss": 3.0, "learning_rate": 1e-9, "step": 10},
            {"eval_code_loss": loss, "step": 10},
            {"eval_math_loss": loss + 1, "step": 10},
            {"train_loss": 2.5, "step": 10},
        ]
        write(tmp_path / name(rate, size) / "trainer_state.json", {"log_history": log})
    frame = read(tmp_path).frame
    same(sweep, frame, "eval_code_loss")
    assert set(frame.benchmark) == {"eval_code_loss", "eval_math_loss"}
    assert frame.value.max() < 9


def test_runs_of_one_cell_that_differ_in_a_setting_are_no_seeds(sweep, tmp_path):
    for rate, size, loss in sweep.itertuples(index=False):
        for decay in ("0", "0.1"):
            run = tmp_path / f"{name(rate, size)}_wd{decay}"
            write(run / "all_results.json", {"eval_loss": loss})
    with pytest.raises(ResultsError, match=r"not seeds: config/wd differs .*--by config/wd"):
        read(tmp_path)
    same(sweep, read(tmp_path, where={"wd": "0"}).frame)


def test_a_folder_without_results_and_a_damaged_file_are_told(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty")]) == 2
    err = capsys.readouterr().err
    assert "not a run folder (no manifest.json), and nothing below it" in err
    assert "lm-eval, the HF Trainer, Ray Tune or W&B, or a metrics.json" in err
    (tmp_path / "empty" / "sweep.csv").write_text("")
    assert main([str(tmp_path / "empty")]) == 2
    assert "it holds tables: give sweep.csv" in capsys.readouterr().err
    write(tmp_path / "hf" / "run-1" / "all_results.json", {"eval_loss": 2.0})
    assert main([str(tmp_path / "hf")]) == 2
    assert "none says its learning rate and batch size; say them in" in capsys.readouterr().err
    bad = tmp_path / "out" / name(1e-5, 8) / "all_results.json"
    write(bad, {"eval_loss": 2.0})
    bad.write_text('{"eval_loss": ')
    assert main([str(tmp_path / "out")]) == 2
    assert f"{bad}: damaged, not JSON" in capsys.readouterr().err
    assert not list(tmp_path.glob("*-report"))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("trainer_state.json", {"log_history": [{"loss": 2.0, "learning_rate": 1e-5}]}, "history"),
        ("results.json", {"results": {"arc": {"acc,none": 1.0}}, "versions": {}}, "one model"),
    ],
)
def test_the_file_of_one_run_is_no_table(file, content, said, tmp_path):
    write(tmp_path / file, content)
    with pytest.raises(ResultsError, match=f"{said}.*give the folder that holds"):
        load.read_table(tmp_path / file)


def test_the_page_has_the_tools_and_files_that_are_read():
    page = (Path(__file__).parents[4] / "docs" / "tables.md").read_text(encoding="utf-8")
    table = page.partition("| tool | files |")[2].partition("\n\n")[0]
    assert not [tool for tool in TOOLS if f"| {tool}" not in table]
    patterns = [SETTINGS, *(file.name for file in TOOL_FILES)]
    names = [name.replace("*", "1") for name in re.findall(r"`([\w*-]+\.(?:json|yaml))`", table)]
    assert not [name for name in names if not any(known.fullmatch(name) for known in patterns)]
    assert not [known for known in patterns if not any(map(known.fullmatch, names))]
