"""Wide tables of trackers and schedulers: which columns are scores, and why the rest is not."""

import numpy as np
import pandas as pd
import pytest

from analysis.tables import load
from analysis.tables.recipe import recipe


def scored(table) -> dict[str, bool]:
    pairs = table.frame.drop_duplicates(["benchmark", "metric"])
    names = pairs.benchmark + "/" + pairs.metric
    return dict(zip(names, pairs.higher_is_better, strict=True))


def reason(table, column: str) -> str:
    notes = [note for note in table.notes if note.startswith("not used: ")]
    (note,) = [
        n for n in notes if column in n.removeprefix("not used: ").split(" (")[0].split(", ")
    ]
    return note.rpartition(" (")[2].rstrip(")")


def test_the_hf_trainers_names(sweep, read):
    table = read(
        sweep.assign(**{"train/loss": 1.9, "train/global_step": 800, "eval/runtime": 13.05})
        .assign(**{"eval/samples_per_second": 38.3, "eval/num_tokens": 123456, "Runtime": 1161})
        .assign(Name="x", Created="2026-03-02T10:00:00.000Z", **{"train/learning_rate": 0.0})
    )
    assert scored(table) == {"loss/value": False}
    assert reason(table, "eval/runtime") == reason(table, "Runtime") == "time or throughput"
    assert reason(table, "eval/num_tokens") == "a counter"
    assert reason(table, "train/loss") == "of the training, not of an evaluation"
    assert reason(table, "train/learning_rate") == "the scheduler's rate, not the peak"
    assert reason(table, "Created") == "a date"


def test_lm_evals_names_with_their_errors(sweep, read):
    accuracy = np.linspace(0.2, 0.4, 20)
    table = read(
        sweep.drop(columns="eval/loss")
        .assign(**{"arc_easy/acc,none": accuracy, "arc_easy/acc_stderr,none": 0.01})
        .assign(**{"gsm8k/exact_match,strict-match": accuracy})
        .assign(**{"gsm8k/exact_match_stderr,strict-match": 0.02})
        .assign(**{"gsm8k/exact_match,flexible-extract": accuracy + 0.1})
        .assign(**{"wikitext/word_perplexity,none": 20 - accuracy})
        .assign(**{"wikitext/word_perplexity_stderr,none": "N/A"})
    )
    assert scored(table) == {
        "arc_easy/acc": True,
        "gsm8k/exact_match,strict-match": True,
        "gsm8k/exact_match,flexible-extract": True,
        "wikitext/word_perplexity": False,
    }
    errors = table.frame.groupby(["benchmark", "metric"]).stderr.first()
    assert errors["arc_easy", "acc"] == 0.01
    assert errors["gsm8k", "exact_match,strict-match"] == 0.02
    primary = table.frame[table.frame.primary]
    assert set(primary[primary.benchmark == "gsm8k"].metric) == {"exact_match,strict-match"}


def test_percent_without_a_sign_with_its_error(sweep, read):
    frame = sweep.assign(**{"arc_easy/acc": 52.5, "arc_easy/acc_stderr": 1.5, "bleu": 31.0})
    table = read(frame).frame.groupby("benchmark").first()
    assert (table["value"]["arc_easy"], table.stderr["arc_easy"]) == (0.525, 0.015)
    assert table["value"]["bleu"] == 31.0, "BLEU goes up to 100"


def test_lightnings_names(sweep, read):
    frame = sweep.rename(columns={"eval/loss": "val_loss_epoch"})
    table = read(frame.assign(train_loss_step=1.0, epoch=3, **{"lr-AdamW": 0.0}))
    assert scored(table) == {"val_loss_epoch/value": False}
    assert reason(table, "epoch") == "how far the run has come"


def test_trls_names(sweep, read):
    table = read(
        sweep.assign(**{"eval_rewards/accuracies": 0.6, "eval_rewards/margins": 0.2})
        .assign(**{"eval_rewards/chosen": 0.1, "eval_logps/chosen": -90.0, "eval_entropy": 1.2})
        .assign(**{"eval_completions/mean_length": 120.0, "eval_reward": 0.3})
    )
    assert scored(table) == {
        "loss/value": False,
        "eval_rewards/accuracies": True,
        "eval_reward/value": True,
    }
    assert reason(table, "eval_logps/chosen") == "a figure of the training, no score"


@pytest.mark.parametrize("name", ["kl", "objective/kl", "policy/approxkl_avg"])
def test_how_far_a_policy_has_moved_is_no_score_unless_named_one(name, sweep, read):
    table = sweep.assign(**{name: 0.01 * np.arange(len(sweep))})
    assert reason(read(table), name) == "a figure of the training, no score"
    assert len(scored(read(table, directions={name: "min"}))) == 2


def test_mlflows_names(sweep, read):
    names = {"learning_rate": "params.learning_rate", "batch_size": "params.batch_size"}
    frame = sweep.rename(columns=names | {"eval/loss": "metrics.eval_loss"})
    table = read(frame.assign(**{"metrics.train_loss": 1.9, "metrics.loss": 1.8, "run_id": "a"}))
    assert scored(table) == {"eval_loss/value": False}
    assert reason(table, "metrics.loss") == "of the training, not of an evaluation"
    assert reason(table, "metrics.train_loss") == "of the training, not of an evaluation"


@pytest.mark.parametrize("room", ["hparam", "dev", "final", "best"])
def test_a_room_of_scores_is_no_benchmark(sweep, read, room):
    frame = sweep.rename(columns={"eval/loss": f"{room}/loss"}).assign(**{f"{room}/accuracy": 0.4})
    assert scored(read(frame)) == {"loss/value": False, "accuracy/value": True}


@pytest.mark.parametrize(("name", "error"), [("gsm8k_acc", "gsm8k_acc_err"),
                                             ("gsm8k", "gsm8k_error")])  # fmt: skip
def test_an_error_beside_its_score_is_no_score_unless_it_is_a_rate(sweep, read, name, error):
    accuracy = np.linspace(0.2, 0.4, 20)
    frame = sweep.assign(**{name: accuracy, error: 0.01})
    rows = read(frame).frame.query("benchmark == 'gsm8k'")
    assert set(rows.stderr) == {0.01} and len(rows) == 20
    assert set(read(frame).frame.benchmark) == {"loss", "gsm8k"}
    rates = read(sweep.assign(**{name: accuracy, error: 1 - accuracy})).frame
    assert set(rates.benchmark) == {"loss", "gsm8k", error}
    odd = read(sweep.assign(test="a", test_error=1 - accuracy)).frame
    assert set(odd.benchmark) == {"loss", "test_error"}


def test_ray_tunes_frame(sweep, read):
    frame = sweep.rename(columns={"learning_rate": "config/lr", "batch_size": "config/batch_size"})
    frame = frame.rename(columns={"eval/loss": "eval_loss"}).assign(
        trial_id=[f"a{n}" for n in range(20)], training_iteration=3, time_total_s=1.5, pid=12
    )
    table = read(frame.assign(train_loss=1.0, status=["ERROR", *["TERMINATED"] * 19]))
    assert scored(table) == {"eval_loss/value": False}
    assert table.frame.status.value_counts().to_dict() == {"ok": 19, "failed": 1}
    assert "1 run error" in table.notes


def optuna(sweep: pd.DataFrame, state: list[str]) -> pd.DataFrame:
    names = {"learning_rate": "params_lr", "batch_size": "params_bs", "eval/loss": "value"}
    return sweep.rename(columns=names).assign(number=range(20), state=state)


def test_optunas_value_is_asked_for_unless_pruned_trials_show_its_direction(sweep, read):
    with pytest.raises(load.ResultsError, match="--direction 'value=max'"):
        read(optuna(sweep, ["COMPLETE"] * 20))
    assert scored(read(optuna(sweep, ["COMPLETE"] * 20), directions={"value": "min"})) == {
        "value/value": False
    }
    pruned = optuna(sweep, ["PRUNED", *["COMPLETE"] * 19])
    pruned.loc[0, "value"] = 9.0
    table = read(pruned)
    assert scored(table) == {"value/value": False}
    assert table.frame.status.iloc[0] == "failed" and np.isnan(table.frame.value.iloc[0])
    pruned["value"] = -pruned["value"]
    assert scored(read(pruned)) == {"value/value": True}


def test_the_training_loss_counts_only_where_there_is_nothing_else(sweep, read):
    assert scored(read(sweep.rename(columns={"eval/loss": "train_loss"}))) == {
        "train_loss/value": False
    }


def test_a_word_fails_its_cell_and_keeps_the_benchmark(sweep, read):
    frame = sweep.assign(gsm8k=np.linspace(0.1, 0.3, 20).astype(object))
    frame.loc[16, "gsm8k"] = "OOM"
    frame.loc[17, "gsm8k"] = "Infinity"
    table = read(frame)
    gsm8k = table.frame[table.frame.benchmark == "gsm8k"]
    assert (gsm8k.status == "failed").sum() == 2 and len(gsm8k) == 20
    assert "the table says 'OOM'" in set(gsm8k.reason)
    assert any("gsm8k: 2 cells with 'OOM', 'Infinity'" in note for note in table.notes)
    assert (table.frame[table.frame.benchmark == "loss"].status == "ok").all()


@pytest.mark.parametrize(("mark", "sign"), [(1e9, 1), (-1e9, -1), (3.4e38, 1)])
def test_a_number_that_marks_divergence_is_no_score(sweep, read, mark, sign):
    name = "eval_loss" if sign > 0 else "reward"
    frame = sweep.rename(columns={"eval/loss": name})
    frame[name] = (sign * frame[name]).mask(frame.learning_rate > 6e-5, mark)
    table = read(frame)
    far = table.frame[table.frame.learning_rate > 6e-5]
    assert (far.status == "diverged").all() and far.value.isna().all() and len(far) == 8
    assert set(far.reason) == {f"the table says '{mark:g}'"}
    assert (table.frame.status == "ok").sum() == 12
    assert f"{name}: {mark:g} (row 13, 14, 15, 16, 17, 18), over 1,000 times what is usual: " in (
        next(note for note in table.notes if "usual" in note)
    )


def test_large_values_of_one_size_are_scores(sweep, read):
    for values in (sweep["eval/loss"] * 1e8, sweep["eval/loss"].mask(sweep.index < 1, 8e5)):
        assert (read(sweep.assign(**{"eval/loss": values})).frame.status == "ok").all()


def test_an_unknown_name_is_a_question_or_is_listed(sweep, read):
    judged = sweep.rename(columns={"eval/loss": "my_judge"})
    with pytest.raises(load.ResultsError, match=r"higher or a lower value better.*my_judge"):
        read(judged)
    assert scored(read(judged, directions={"my_judge": "max"})) == {"my_judge/value": True}
    both = read(sweep.assign(my_judge=np.linspace(0.001, 0.777, 20)))
    assert "--direction COLUMN=max" in reason(both, "my_judge")
    with pytest.raises(load.ResultsError, match="--direction los=max: no score of that name"):
        read(sweep, directions={"los": "max"})


def test_long_tables_ask_too(sweep, read):
    long = sweep.rename(columns={"eval/loss": "value"}).assign(benchmark="mine", metric="zing")
    with pytest.raises(load.ResultsError, match="mine/zing"):
        read(long)
    assert scored(read(long, directions={"mine/zing": "min"})) == {"mine/zing": False}
    assert scored(read(long.assign(metric="wer"))) == {"mine/wer": False}


def test_columns_named_by_hand(sweep, read):
    odd = sweep.rename(columns={"learning_rate": "peak", "batch_size": "size"})
    table = read(odd, columns={"learning_rate": "peak", "batch_size": "size"})
    assert table.frame.learning_rate.nunique() == 5
    with pytest.raises(load.ResultsError, match="no column peek; the table has: peak, size"):
        read(odd, columns={"learning_rate": "peek"})
    with pytest.raises(load.ResultsError, match="no column of that name is asked for; use one of"):
        read(odd, columns={"rate": "peak"})


@pytest.mark.parametrize(
    ("column", "written", "told"),
    [
        ("optim", "adamw_torch_fused", ""),
        ("config/optimizer", "paged_adamw_8bit", " Trained: 8-bit AdamW."),
        ("optimizer", "torch.optim.SGD", " Trained: SGD."),
        ("optimizer", "Lion", " Trained: Lion."),
        ("optimizer", "shampoo", " Trained: shampoo."),
        ("finetuning_type", "LoRA", " Trained: LoRA."),
        ("finetuning_type", "full", ""),
    ],
)
def test_optimizer_and_adapter_of_a_table_are_those_of_the_schema(
    sweep, read, column, written, told
):
    assert recipe(read(sweep.assign(**{column: written})).frame).told == told
