"""Which metrics are better when higher and which when lower, by the field's own names.

A name that says neither, or both, has no direction here: whoever reads the table has to ask.
Sources: the metrics of lm-eval 0.4.13 (`higher_is_better` in its tasks), of Hugging Face's
`evaluate`, of scikit-learn, and the logs of TRL 1.16.
"""

import re
from collections.abc import Sequence

from analysis.benchmarks import ON_DATA_OF, TASKS
from analysis.tables.external.names.benchmarks import SHOTS

LOWER = (
    *("loss", "losses", "perplexity", "perplexities", "ppl", "pplx", "bpb", "bpc", "bpw", "nll"),
    *("xent", "crossentropy", "ce", "bits per byte", "bits per character", "bits per char"),
    *("bits per token", "bits per word", "cross entropy", "negative log likelihood"),
    *("neg log likelihood", "neg log prob", "error", "errors", "err", "error rate", "eer", "mer"),
    *("wer", "cer", "ter", "wil", "edit distance", "levenshtein", "distance", "rmse"),
    *("mse", "mae", "mape", "smape", "msle", "mean squared error", "mean absolute error", "fid"),
    *("kl", "kl divergence", "brier", "ece", "calibration error", "hallucination rate"),
    *("toxicity", "failure rate", "fail rate", "regret"),
)
HIGHER = (
    *("acc", "accuracy", "accuracies", "acc norm", "exact match", "em", "quasi exact match"),
    *("f1", "fmeasure", "f measure", "fscore", "f score", "f05", "f2", "bleu", "sacrebleu"),
    *("bleu1", "bleu2", "bleu3", "bleu4", "rouge", "rouge1", "rouge2", "rougel", "rougelsum"),
    *("rouge l", "chrf", "chrf++", "meteor", "bertscore", "bleurt", "comet", "mauve"),
    *("pass rate", "win", "wins", "winrate", "win rate", "lc win rate", "reward", "rewards"),
    *("mcc", "matthews", "matthews corrcoef", "matthews correlation", "auc", "auroc", "auprc"),
    *("roc auc", "average precision", "mean average precision", "mrr", "ndcg", "recall"),
    *("precision", "r2", "pearson", "spearman", "spearmanr", "pearsonr", "kendall"),
    *("correlation", "success rate", "solve rate", "solved", "success", "correct", "hit rate"),
    *("elo", "iou", "miou", "dice", "psnr", "ssim", "log likelihood", "loglikelihood"),
    *("logprob", "log prob", "mc1", "mc2", "strict match", "flexible extract", "cosine similarity"),
)
PATTERNS_HIGHER = (r"pass\d+", r"pass at \d+", r"pass@\d+", r"maj@?\d+", r"cons@?\d+", r"avg@\d+")
PATTERNS_HIGHER += (
    r"hits?@?\d+",
    r"top ?\d+",
    r"acc@?\d+",
    r"(ndcg|recall|precision|mrr|map)@?\d+",
    r"bleu ?\d",
)
TURNED = frozenset(
    (
        *("delta", "diff", "difference", "neg", "negative", "minus", "inverse", "change", "gap"),
        *("improvement", "reduction", "degradation", "decrease", "increase", "std", "stdev", "var"),
        *("variance", "stderr", "count", "num", "n", "coef", "coefficient", "weight", "scale"),
        *("chosen", "rejected", "target", "threshold", "type", "bound", "margin", "margins"),
        "clip",
    )
)
"""Words that turn a metric into something else, whose best value the name no longer says."""

BENCHMARKS_HIGHER = frozenset(
    (
        *("agieval", "aime", "aime24", "aime25", "alpaca_eval", "alpacaeval", "amc", "anli"),
        *("arc", "arc_challenge", "arc_easy", "arena_hard", "asdiv", "babi", "bbh"),
        *("big_bench_hard", "bigbench", "boolq", "c_eval", "ceval", "cmmlu", "cola"),
        *("commonsense_qa", "commonsenseqa", "copa", "csqa", "drop", "glue", "gpqa"),
        *("gpqa_diamond", "gsm8k", "gsm8k_cot", "gsm_plus", "headqa", "hellaswag"),
        *("hendrycks_math", "humaneval", "humaneval_plus", "ifbench", "ifeval", "livebench"),
        *("livecodebench", "logiqa", "math", "math500", "math_500", "mathqa", "mbpp"),
        *("mbpp_plus", "mgsm", "minerva_math", "mmlu", "mmlu_pro", "mmlu_redux", "mmmlu"),
        *("mnli", "mrpc", "mt_bench", "mtbench", "musr", "natural_questions", "nq"),
        *("nq_open", "olympiadbench", "openbookqa", "piqa", "popqa", "pubmedqa", "qasper"),
        *("qnli", "qqp", "race", "rewardbench", "rte", "sciq", "siqa", "social_iqa", "squad"),
        *("squad_v2", "sst2", "storycloze", "stsb", "super_glue", "superglue", "svamp"),
        *("swe_bench", "swebench", "tinymmlu", "triviaqa", "truthfulqa", "truthfulqa_mc1"),
        *("truthfulqa_mc2", "tydiqa", "webqs", "wic", "winogrande", "wsc", "wsc273", "xcopa"),
        *("xnli", "xstorycloze", "xwinograd"),
    )
)
"""Benchmarks whose usual score is an accuracy or a rate, for tables that name no metric."""

_PHRASES = {tuple(name.split()): True for name in HIGHER}
_PHRASES |= {tuple(name.split()): False for name in LOWER}
_LONGEST = max(map(len, _PHRASES))


def higher_is_better(benchmark: str, metric: str = "") -> bool | None:
    """Whether a higher value is better: by the metric's name, else the benchmark's; None where
    neither says."""
    by_metric = _of_path(metric)
    if by_metric is not None:
        return by_metric
    if metric and set(_words(metric)) & TURNED:
        return None
    return _of_benchmark(benchmark)


def _of_benchmark(benchmark: str) -> bool | None:
    name = benchmark.partition(ON_DATA_OF)[0]
    for whole in (benchmark, name):  # pass@1 has the mark too
        by_name = _of_path(whole)
        if by_name is not None:
            return by_name
    plain = SHOTS.sub("_", re.sub(r"[\s\-/()]+", "_", name.lower())).strip("_")
    return True if plain in BENCHMARKS_HIGHER or plain in TASKS else None


def _of_path(name: str) -> bool | None:
    """The last part of a/b/c that says something: rewards/accuracies, pretraining_loss/smoothed."""
    for part in reversed(re.split(r"[/.:]", name)):
        words = _words(part.split(",")[0])
        if words and set(words) & TURNED and not _phrase(words):
            return None
        direction = _of_words(words)
        if direction is not None:
            return direction
    return None


def _phrase(words: Sequence[str]) -> bool:
    return tuple(words) in _PHRASES


def _of_words(words: Sequence[str]) -> bool | None:
    """By the phrases among the words. A known last word names the thing (reward_loss is a loss);
    words of both kinds before an unknown one say nothing."""
    hits: list[bool] = []
    place = 0
    while place < len(words):
        for length in range(min(_LONGEST, len(words) - place), 0, -1):
            direction = _known(words[place : place + length])
            if direction is not None:
                hits.append(direction)
                place += length
                if place == len(words):
                    return direction
                break
        else:
            place += 1
    return hits[0] if hits and len(set(hits)) == 1 else None


def _known(words: Sequence[str]) -> bool | None:
    direction = _PHRASES.get(tuple(words))
    if direction is None and any(re.fullmatch(p, " ".join(words)) for p in PATTERNS_HIGHER):
        return True
    return direction


def _words(name: str) -> list[str]:
    """evalLoss, eval_loss, "eval loss" and eval-loss alike; pass@1 stays whole."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", " ", name.strip())
    return [word for word in re.split(r"[^a-z0-9@+]+", name.lower()) if word]
