"""The metric that a benchmark goes by and its direction, known before anything runs."""

import pytest

from analysis.tables.external.names import directions
from trainers.tasks import benchmarks, metrics
from trainers.tasks.metrics import Metric

HEAD = "task: mine\noutput_type: {}\ndoc_to_text: x\ndoc_to_target: y\n"


@pytest.fixture
def task(tmp_path):
    def write(metric_list: str, output_type: str = "generate_until") -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(HEAD.format(output_type) + metric_list)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("arc", Metric("acc_norm", True)),
        ("gsm8k", Metric("exact_match,flexible-extract", True)),
        ("ifeval", Metric("average", True)),
        ("world_instruction", Metric("obeyed", True)),
        ("rewardbench", Metric("average", True)),
        ("ufb", Metric("accuracy", True)),
        ("wikitext", Metric("word_perplexity", False)),
        ("lambada_openai", Metric("perplexity", False)),
        ("winogrande", Metric("acc", True)),
        ("gsm8k_cot", Metric("exact_match,strict-match", True)),
        ("mmlu", Metric("acc", True)),
    ],
)
def test_metric_of_a_benchmark_by_name(name, expected):
    assert metrics.primary(benchmarks.find(name)) == expected


@pytest.mark.parametrize(
    ("metric_list", "output_type", "expected"),
    [
        ("", "loglikelihood_rolling", ("word_perplexity", False)),
        ("", "multiple_choice", ("acc", True)),
        ("metric_list: [{metric: brier_score}]", "multiple_choice", ("brier_score", False)),
        ("metric_list: [{metric: acc_norm}, {metric: acc}]", "multiple_choice", ("acc_norm", True)),
        ("metric_list: [{metric: ter}]", "generate_until", ("ter", False)),
        (
            "metric_list: [{metric: frob, aggregation: mean, higher_is_better: false}]",
            "generate_until",
            ("frob", False),
        ),
        (
            "metric_list: [{metric: acc, aggregation: mean, higher_is_better: false}]",
            "multiple_choice",
            ("acc", False),
        ),
        ("metric_list: [{metric: edits, aggregation: mean}]", "generate_until", ("edits", False)),
        ("metric_list: [{metric: wer, aggregation: mean}]", "generate_until", ("wer", False)),
        (
            "metric_list: [{metric: win_rate, aggregation: mean}]",
            "generate_until",
            ("win_rate", True),
        ),
        (
            "metric_list: [{metric: !function utils.gap_loss, aggregation: mean}]",
            "generate_until",
            ("gap_loss", False),
        ),
        (
            "filter_list: [{name: last, filter: []}, {name: any, filter: []}]",
            "generate_until",
            ("exact_match,last", True),
        ),
    ],
)  # fmt: skip
def test_direction_is_the_tasks_own_then_the_registrys_then_the_names(
    metric_list, output_type, expected, task
):
    name = task(metric_list, output_type)
    assert metrics.primary(benchmarks.find(name)) == Metric(*expected)
    assert benchmarks.problem(name) is None


@pytest.mark.parametrize("separator", ["_", ""])
def test_runs_and_tables_read_no_name_in_two_directions(separator):
    """A run may ask about a name that a table knows."""
    known = dict.fromkeys(directions.HIGHER, True) | dict.fromkeys(directions.LOWER, False)
    read = {name: metrics.of_name(name.replace(" ", separator)) for name in known}
    assert {name for name in known if read[name] not in (known[name], None)} == set()


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("negative_log_likelihood", False),
        ("neg_log_prob", False),
        ("incorrect", False),
        ("mismatch_rate", False),
        ("accuracy_loss_ratio", None),
        ("bertscore_f1", True),
        *((name, None) for name in ("hit_rank", "em_rank", "rank_em", "wer_em", "ter_map")),
        ("ndcg_10", True),
        ("remap", None),
    ],
)
def test_direction_of_a_name(name, better):
    assert metrics.of_name(name) is better


def test_metric_that_nothing_is_known_of_is_asked_about(task):
    said = benchmarks.problem(task("metric_list: [{metric: frob, aggregation: mean}]"))
    assert "is more of its metric 'frob' better?" in str(said)
    said = benchmarks.problem(task("metric_list: [{metric: frob, higher_is_better: true}]"))
    assert "'frob' needs an aggregation" in str(said)
