"""`python -m trainers.evaluate`: any model, into the records of a run."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.tables import load
from analysis.tables.records import run_table
from sweep.gridfile.load import load as load_grid
from sweep.plan import evaluations, trials
from sweep.storage.run_folder import RunFolder
from sweep.storage.trial_folder import TrialFolder
from tests.own_task import WRITTEN, own_task
from trainers import files
from trainers.evaluate import __main__ as alone
from trainers.stages import reward_model

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(tmp_path):
    """The command in this process; returns its exit code and what it said."""

    def go(*arguments: str, model: str = "tiny", out: str = "scores") -> tuple[int, str]:
        options = [model, "--out", str(tmp_path / out), "--threads", "1", *arguments]
        ended = CliRunner().invoke(alone.app, options, catch_exceptions=False)
        return ended.exit_code, ended.output

    return go


@pytest.fixture
def saved(tiny, tmp_path):
    """The tiny model as a folder on disk, as a trial of a sweep leaves it."""
    folder = tmp_path / "somewhere" / "model"
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return str(folder)


def test_scores_of_a_model_are_rows_of_the_table_that_a_sweep_has(run, tmp_path):
    code, said = run("--benchmarks", "world_choice,world_arithmetic", "--limit", "8")
    assert code == 0
    assert "choice_probability" in said
    table = load.read(tmp_path / "scores")
    assert set(table.stage) == {"base"}
    assert set(table.status) == {"ok"}
    primary = table[table.primary]
    assert list(primary.benchmark) == ["world_choice", "world_arithmetic"]
    assert list(primary.metric) == ["acc", "exact_match,strict-match"]
    assert (table.n == 8).all()
    items = run_table.items(tmp_path / "scores")
    assert len(items[items.metric == "acc"]) == 8


def test_records_are_those_that_a_sweep_has_of_its_base_model(run, small, grid_file, tmp_path):
    run("--benchmarks", "world_choice", "--limit", "8")
    overrides = ("evaluate={benchmarks: [world_choice], limit: 8}", "stages.sft.heldout=0")
    grid = load_grid(grid_file(small), list(overrides))
    manifest = files.read_json(tmp_path / "scores" / "manifest.json")
    wants = evaluations.wanted(grid, {})["base"]
    assert manifest["stages"]["base"]["evaluations"] == [want.record for want in wants]
    sweeps = TrialFolder(tmp_path / "sweeps")
    sweeps.write_identity(next(trial for trial in trials.trials(grid) if trial.spec is None))
    expected = files.read_json(sweeps.path / "trial.json") | {"key": None}
    (own,) = (tmp_path / "scores" / "trials").iterdir()
    assert files.read_json(own / "trial.json") | {"key": None} == expected
    assert TrialFolder(own).training() is not None and RunFolder(own.parents[1]).newer() is None


def test_same_command_again_scores_only_what_is_not_there(run, tmp_path):
    run("--benchmarks", "world_choice", "--limit", "8")
    before = {
        path: path.stat().st_mtime_ns for path in tmp_path.glob("scores/trials/*/scores/*.json")
    }
    code, said = run("--benchmarks", "world_choice,world_continuation", "--limit", "8")
    assert code == 0
    assert "world_continuation ..." in said
    assert "world_choice ..." not in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(load.read(tmp_path / "scores").benchmark) == {
        "world_choice",
        "world_continuation",
    }


def test_several_models_stand_in_one_table(run, saved, tmp_path):
    run("--benchmarks", "world_choice", "--limit", "8")
    run("--benchmarks", "world_choice", "--limit", "8", model=saved)
    table = load.read(tmp_path / "scores")
    assert table.key.nunique() == 2
    assert set(table.model) == {"tiny", saved}
    values = table[table.metric == "choice_probability"].value
    assert values.iloc[0] == pytest.approx(values.iloc[1]), "it is the same model"


METRICS = """\
generation_kwargs: {max_gen_toks: 4}
metric_list: [{metric: exact_match}, {metric: bleu}, {metric: chrf}, {metric: ter}]
"""


def test_task_files_of_one_name_are_two_benchmarks_now_and_later(run, tmp_path):
    """And BLEU is a score without an error."""
    for name in ("p/mine", "q/mine", "p/gsm8k"):
        folder, _, file = name.partition("/")
        items = [{"q": "a b", "a": "c d"}, {"q": "e", "a": "f"}]
        path = own_task(tmp_path / folder, items, WRITTEN + METRICS, f"mine_{folder}_{file}")
        path.rename(tmp_path / f"{name}.yaml")
    for names, labels in (("p/mine", "mine"), ("q/mine,p/gsm8k,p/mine", "q-mine p-gsm8k mine")):
        paths = [str(tmp_path / f"{name}.yaml") for name in names.split(",")]
        code, said = run("--benchmarks", ",".join(paths))
        assert code == 0, said
        assert [f"{label} ..." in said for label in labels.split()][:2] == [True] * len(paths[:2])
        assert "other settings" not in said
    table = load.read(tmp_path / "scores").set_index(["benchmark", "metric"])
    assert set(table.index.get_level_values(0)) == {"mine", "q-mine", "p-gsm8k"}
    assert set(table.task_type) == {"other"}
    assert table.stderr.loc["mine"].isna().to_dict() == {
        "exact_match": False, "bleu": True, "chrf": True, "ter": True
    }  # fmt: skip


def test_reward_model_is_scored_on_pairs(run, tiny, tmp_path, shared_data):
    model = reward_model.with_head(copy.deepcopy(tiny.model), seed=0)
    model.save_pretrained(tmp_path / "judge")
    tiny.tokenizer.save_pretrained(tmp_path / "judge")
    options = [
        "--benchmarks",
        "rewardbench",
        "--limit",
        "12",
        "--data-dir",
        str(shared_data / "eval"),
    ]
    code, said = run(*options, model=str(tmp_path / "judge"))
    assert code == 0, said
    table = load.read(tmp_path / "scores")
    assert set(table.benchmark) == {"rewardbench"}
    assert (table.n == 12).any()


def test_model_that_writes_is_not_scored_on_pairs(run, saved, shared_data):
    options = ["--benchmarks", "rewardbench", "--data-dir", str(shared_data / "eval")]
    code, said = run(*options, model=saved)
    assert code == 4
    assert "it judges nothing" in said


def test_other_settings_are_another_score(run, tmp_path):
    run("--benchmarks", "world_choice", "--limit", "8")
    code, said = run("--benchmarks", "world_choice", "--limit", "12", "--preset", "lm_eval")
    assert code == 0
    assert "other settings than before" in said
    assert set(load.read(tmp_path / "scores").n) == {12}
    assert len(list(tmp_path.glob("scores/trials/*/scores/*.json"))) == 2, "nothing is overwritten"


@pytest.mark.parametrize(
    ("arguments", "model", "code", "said"),
    [
        (["--benchmarks", "world_choise"], "tiny", 2, "did you mean world_choice"),
        (["--benchmarks", "world_choice"], "nowhere", 2, "'nowhere' is neither"),
        (["--benchmarks", ","], "tiny", 2, "benchmarks"),
        (["--benchmarks", "world_choice", "--limit", "0"], "tiny", 2, "limit"),
        (["--benchmarks", "world_choice,rewardbench"], "tiny", 2, "score the two apart"),
        (["--benchmarks", "arc", "--data-dir", "/nowhere"], "tiny", 4, "arc_easy_test"),
        (["--benchmarks", "world_choice", "--backend", "vllm"], "tiny", 4, "'lm-eval[vllm]'"),
    ],
)  # fmt: skip
def test_exit_code_says_whether_the_command_or_the_machine_is_at_fault(
    arguments, model, code, said, run, tmp_path
):
    ended = run(*arguments, model=model)
    assert ended[0] == code
    assert said in ended[1]
    assert not (tmp_path / "scores").exists(), "nothing was written"


def test_run_folder_of_a_sweep_is_not_written_to(run, tmp_path):
    (tmp_path / "swept").mkdir()
    (tmp_path / "swept" / "plan.csv").write_text("key\n")
    code, said = run("--benchmarks", "world_choice", out="swept")
    assert code == 2
    assert "run folder of a sweep" in said


def test_benchmark_that_fails_does_not_keep_the_others(run, tmp_path):
    mine = own_task(tmp_path, [], keys="")
    (tmp_path / "items.jsonl").write_text("no JSON\n")
    code, said = run("--benchmarks", f"{mine},world_choice", "--limit", "8")
    assert code == 3
    assert "mine: EvaluationUnavailable" in said
    assert set(load.read(tmp_path / "scores").benchmark) == {"world_choice"}


def test_task_file_that_names_no_data_is_refused_at_once(run, tmp_path):
    (tmp_path / "mine.yaml").write_text("task: mine\ndataset_path: json\ntest_split: test\n")
    code, said = run("--benchmarks", f"{tmp_path / 'mine.yaml'},world_choice")
    assert code == 2
    assert "dataset_kwargs: {data_files: {test: PATH}}" in said


def test_help_of_the_module_says_what_it_takes():
    told = subprocess.run(
        [sys.executable, "-m", "trainers.evaluate", "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, env={"COLUMNS": "200"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "--benchmarks" in told.stdout
