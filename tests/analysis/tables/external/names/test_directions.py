"""What is better, by the field's names; and what no name says."""

import pytest

from analysis.tables.external.names.directions import higher_is_better

LOWER = [
    "loss",
    "eval_loss",
    "perplexity",
    "word_perplexity",
    "ppl",
    "bits_per_byte",
    "bpb",
    "nll",
    "xent",
    "cross_entropy",
    "wer",
    "cer",
    "ter",
    "error_rate",
    "token_error_rate",
    "edit_distance",
    "rmse",
    "mae",
    "mse",
    "kl",
    "reward_loss",
    "evalLoss",
    "loss_mean",
]  # fmt: skip
HIGHER = [
    "acc",
    "accuracy",
    "acc_norm",
    "acc,none",
    "exact_match",
    "exact_match,strict-match",
    "em",
    "f1",
    "macro_f1",
    "bleu",
    "BLEU-4",
    "rougeL",
    "rouge1",
    "chrf",
    "chrf++",
    "pass@1",
    "pass@10",
    "win_rate",
    "lc_winrate",
    "reward",
    "rewards/accuracies",
    "mcc",
    "auc",
    "roc_auc",
    "mean_token_accuracy",
    "top1_acc",
    "ndcg@10",
]  # fmt: skip
SILENT = [
    "score",
    "value",
    "objective",
    "zing",
    "rewards/margins",
    "rewards/chosen",
    "loss_std",
    "neg_loss",
    "accuracy_change",
    "runtime",
    "samples_per_second",
    "num_tokens",
    "entropy",
]  # fmt: skip


@pytest.mark.parametrize(
    "metric",
    LOWER,
)
def test_lower_is_better(metric):
    assert higher_is_better("mine", metric) is False
    assert higher_is_better(metric) is False


@pytest.mark.parametrize(
    "metric",
    HIGHER,
)
def test_higher_is_better(metric):
    assert higher_is_better("mine", metric) is True
    assert higher_is_better(metric) is True


@pytest.mark.parametrize(
    "metric",
    SILENT,
)
def test_a_name_that_says_nothing_has_no_direction(metric):
    assert higher_is_better("mine", metric) is None
    assert higher_is_better(metric) is None


def test_the_metric_speaks_before_the_benchmark():
    assert higher_is_better("gsm8k", "nll") is False
    assert higher_is_better("pretraining_loss", "smoothed") is False
    assert higher_is_better("mmlu") is True
    assert higher_is_better("heldout_loss@sft") is False


@pytest.mark.parametrize("name", ["mmlu_5shot", "5-shot MMLU", "triviaqa (5 shots)", "MMLU-0shot"])
def test_examples_in_the_prompt_leave_a_benchmark_its_direction(name):
    assert higher_is_better(name) is True
