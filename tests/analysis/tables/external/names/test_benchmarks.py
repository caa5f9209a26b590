"""Benchmarks by the names that people give them."""

import pytest

from analysis.benchmarks import task
from analysis.tables.external.names.benchmarks import all_named, named


@pytest.mark.parametrize(
    ("name", "benchmark", "metric"),
    [
        ("GSM8K", "gsm8k", ""),
        ("GSM8K (5-shot)", "gsm8k", "5-shot"),
        ("gsm8k_8shot", "gsm8k", "8-shot"),
        ("5-shot GSM-8K", "gsm8k", "5-shot"),
        ("gsm8k-cot", "gsm8k_cot", ""),
        ("gsm8k_strict_match", "gsm8k", "strict_match"),
        ("ARC-C", "arc_challenge", ""),
        ("arc_c_25shot", "arc_challenge", "25-shot"),
        ("arc:challenge|25", "arc_challenge", "25-shot"),
        ("arc:easy|25|0", "arc_easy", "25-shot"),
        ("HellaSwag 10-shot", "hellaswag", "10-shot"),
        ("hellaswag_acc_norm", "hellaswag", "acc_norm"),
        ("IFEval prompt-strict", "ifeval", "prompt_strict"),
        ("leaderboard_ifeval", "ifeval", "leaderboard"),
        ("MMLU Pro", "mmlu_pro", ""),
    ],
)
def test_name(name, benchmark, metric):
    assert named(name) == (benchmark, metric)
    assert task(benchmark).label != benchmark


@pytest.mark.parametrize(
    "name", ["gsm8k_platinum", "tinyArc", "ifeval_de", "arc_hellaswag", "march", "gsm8k_stderr", ""]
)
def test_what_may_be_another_benchmark_keeps_its_name(name):
    assert named(name) is None


def test_two_names_of_one_benchmark_stay_two():
    read = all_named(["ARC-C", "arc_challenge", "GSM8K", "mine"])
    assert read["ARC-C"] == ("ARC-C", "") and read["arc_challenge"] == ("arc_challenge", "")
    assert read["GSM8K"] == ("gsm8k", "") and read["mine"] == ("mine", "")


def test_columns_of_a_wide_table(sweep, read):
    scores = sweep["eval/loss"].rsub(3) / 3
    frame = sweep.drop(columns="eval/loss").assign(
        **{"GSM8K (5-shot)": scores, "gsm8k": scores, "ARC-C": scores, "arc_challenge": scores}
    )
    table = read(frame)
    pairs = table.frame[["benchmark", "metric", "task_type"]].drop_duplicates()
    assert [tuple(pair) for pair in pairs.itertuples(index=False)] == [
        ("gsm8k", "5-shot", "reasoning"),
        ("gsm8k", "value", "reasoning"),
        ("arc_challenge", "value", "reasoning"),
        ("arc_challenge", "arc_challenge", "reasoning"),
    ]
    assert "score ARC-C, read as arc_challenge: higher is better" in table.notes


def test_rows_of_a_long_table(sweep, read):
    long = sweep.rename(columns={"eval/loss": "value"}).assign(task="HellaSwag", metric="acc")
    table = read(long.assign(value=long["value"] / 3))
    assert set(table.frame.task_type) == {"pattern"}
    assert "HellaSwag: read as hellaswag" in table.notes
