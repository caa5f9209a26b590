"""A new grid file, in situations that people have: its plan is made, its axes are centred."""

import math

import pytest
from typer.testing import CliRunner

from sweep import grid_size, new, run
from sweep.gridfile import load
from sweep.plan import starting_points, trials
from sweep.price import cost

SITUATIONS = {
    "eight GPUs": ["--kind", "sft", "--model", "HuggingFaceTB/SmolLM2-135M", "--data",
                   "allenai/tulu-3-sft-mixture", "--benchmarks", "arc,gsm8k", "--gpus", "8",
                   "--hours", "12"],
    "one GPU": ["--kind", "dpo", "--model", "HuggingFaceTB/SmolLM2-1.7B", "--data",
                "allenai/llama-3.1-tulu-3-8b-preference-mixture", "--benchmarks", "arc",
                "--gpus", "1", "--hours", "24"],
    "a laptop": ["--kind", "sft", "--model", "tiny", "--data", "world:sft", "--benchmarks",
                 "world_choice", "--gpus", "0", "--hours", "0.5"],
    "rewards": ["--kind", "reward", "--model", "HuggingFaceTB/SmolLM2-135M", "--data",
                "allenai/llama-3.1-tulu-3-8b-preference-mixture", "--benchmarks", "",
                "--gpus", "2", "--hours", "8"],
    "verifiable": ["--kind", "rlvr", "--model", "HuggingFaceTB/SmolLM2-135M", "--data",
                   "allenai/RLVR-GSM-MATH-IF-Mixed-Constraints", "--benchmarks", "gsm8k",
                   "--gpus", "8", "--hours", "24"],
}  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_grid_passes_the_dry_run_and_is_centred(situation, tmp_path):
    out = tmp_path / "mine.yaml"
    options = SITUATIONS[situation]
    written = CliRunner().invoke(new.app, [*options, "--out", str(out)], catch_exceptions=False)
    assert written.exit_code == 0, written.output
    plan = CliRunner().invoke(run.app, [str(out), "--dry-run", "--runs", str(tmp_path)])
    assert plan.exit_code == 0, plan.output
    grid = load.load(out)
    (stage,) = grid.stages.values()
    rates, sizes = stage.axes["learning_rate"], stage.axes["batch_size"]
    middle = starting_points.centre(stage.name, 967_104 if "tiny" in options else _size(options))
    assert math.sqrt(rates[0] * rates[-1]) == pytest.approx(middle.learning_rate, rel=0.02)
    assert sizes[0] <= middle.batch_size <= sizes[-1]
    assert math.log2(rates[-1] / rates[0]) >= math.log2(sizes[-1] / sizes[0]) + 1.9
    planned = [trial for trial in trials.trials(grid) if trial.spec is not None]
    text = out.read_text()
    assert f"= {len(planned)} trials" in text
    source = starting_points.PUBLISHED[stage.name].source
    assert f"Middle of the axes: {source}; " in text.replace("\n# ", " ")
    assert "    keep: best   # other weights go after scoring" in text
    assert max(map(len, text.splitlines()[2:])) <= 110


SFT = ["--kind", "sft", "--model", "HuggingFaceTB/SmolLM2-135M", "--data",
       "allenai/tulu-3-sft-mixture", "--benchmarks", "arc,gsm8k,hellaswag,ifeval"]  # fmt: skip
RLVR = [*SITUATIONS["verifiable"][:-4], "--gpus", "1"]


def written_for(options: list[str], out) -> tuple[str, str]:
    """The file, and the end of its plan."""
    new_ = CliRunner().invoke(new.app, [*options, "--out", str(out)], catch_exceptions=False)
    assert new_.exit_code == 0, new_.output
    plan = CliRunner().invoke(run.app, [str(out), "--dry-run", "--runs", str(out.parent)])
    assert plan.exit_code == 0, plan.output
    return out.read_text(), plan.output


@pytest.mark.parametrize(
    "options",
    [[*RLVR, "--hours", "8"], [*SITUATIONS["eight GPUs"][:-2], "--hours", "3"],
     [*SFT, "--gpus", "1", "--hours", "20"]],
    ids=["answers are written", "eight GPUs", "one GPU"],
)  # fmt: skip
def test_the_plan_of_the_grid_takes_the_hours_and_no_more(options, tmp_path):
    out, hours = tmp_path / "mine.yaml", float(options[-1])
    written_for(options, out)
    grid = load.load(out)
    planned = trials.trials(grid)
    prices = [cost.price(grid, trial, None) for trial in planned]
    gpus = int(options[options.index("--gpus") + 1])
    at_once = int(gpus / grid.resources.gpus_per_trial)
    assert 0.4 * hours < cost.wall_hours(grid, planned, prices, at_once, None) <= hours


def test_what_the_hours_do_not_allow_is_said(tmp_path):
    text, _ = written_for([*SFT, "--gpus", "0", "--hours", "2"], tmp_path / "mine.yaml")
    words = text.replace("\n# ", " ")
    assert "more than there are" in words and "at batch size 32; below 200 a learning rate" in words
    assert f"limit: {grid_size.FEWEST_ITEMS}}}" in text


def test_a_model_too_large_for_one_gpu_is_sharded_or_the_file_says_that_it_does_not_fit(tmp_path):
    large = ["--kind", "sft", "--model", "allenai/Llama-3.1-Tulu-3-8B", *SFT[4:], "--hours", "24"]
    text, plan = written_for([*large, "--gpus", "8"], tmp_path / "eight.yaml")
    assert "sharding: " in text and "more than 141 GB" not in plan and "of 141 GB" not in plan
    text, _ = written_for([*large, "--gpus", "1"], tmp_path / "one.yaml")
    assert "No training of all weights fits 1 GPU of 80 GB" in text.replace("\n# ", " ")


def _size(options: list[str]) -> int:
    return 1_711_376_384 if "HuggingFaceTB/SmolLM2-1.7B" in options else 134_515_008


@pytest.mark.parametrize("benchmarks", ["heldout_loss", "heldout_loss,arc"])
def test_what_a_stage_scores_itself_has_no_items_to_count(benchmarks, tmp_path):
    written_for([*SFT[:-1], benchmarks, "--gpus", "0", "--hours", "8"], tmp_path / "mine.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_more_hours_give_a_larger_grid(tmp_path):
    counts = []
    for hours in ("0.2", "200"):
        out = tmp_path / f"h{hours}.yaml"
        options = [*SITUATIONS["one GPU"][:-1], hours, "--out", str(out)]
        assert CliRunner().invoke(new.app, options).exit_code == 0
        counts.append(len(trials.trials(load.load(out))))
    assert counts[0] < counts[1]


def test_what_is_not_told_is_asked(tmp_path):
    out = tmp_path / "asked.yaml"
    answers = "sft\ntiny\nworld:sft\nworld_choice\n0\n0.5\n"
    written = CliRunner().invoke(new.app, ["--out", str(out)], input=answers)
    assert written.exit_code == 0, written.output
    assert load.load(out).model.name == "tiny"
    silent = CliRunner().invoke(new.app, ["--out", str(tmp_path / "other.yaml")], input="")
    assert silent.exit_code == 2


@pytest.mark.parametrize(
    ("answers", "said", "code"),
    [
        ("two\n0\nlong\n0.5\n", "should be a valid integer", 0),
        ("-1\n", "--gpus -1: give 0 or more", 2),
        ("0\nnan\n", "--hours nan", 2),
    ],
)
def test_answers_that_are_no_numbers_are_told(answers, said, code, tmp_path):
    out = tmp_path / "asked.yaml"
    ended = CliRunner().invoke(new.app, [*SITUATIONS["a laptop"][:8], "--out", str(out)], answers)
    assert ended.exit_code == code and said in ended.output
    assert out.exists() == (code == 0)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--kind", "ppo", "use one of sft"),
        ("--hours", "0", "above 0"),
        ("--data", "./no.jsonl", "no.jsonl"),
    ],
)
def test_wrong_answers_write_nothing(option, value, said, tmp_path):
    out = tmp_path / "wrong.yaml"
    options = [*SITUATIONS["a laptop"], option, value, "--out", str(out)]
    ended = CliRunner().invoke(new.app, options)
    assert ended.exit_code == 2 and said in ended.output
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_kept(tmp_path):
    out = tmp_path / "mine.yaml"
    out.write_text("mine")
    options = [*SITUATIONS["a laptop"], "--out", str(out)]
    assert CliRunner().invoke(new.app, options).exit_code == 2
    assert out.read_text() == "mine"
    assert CliRunner().invoke(new.app, [*options, "--force"]).exit_code == 0


def test_larger_models_take_smaller_rates_as_published():
    """Tulu 3's SFT of 8B is at 5e-6 (arXiv 2411.15124)."""
    assert starting_points.centre("sft", 8.03e9).learning_rate == pytest.approx(5e-6, rel=0.2)
