"""Benchmarks by the names that people give them -> those that are sorted into task types, with the
metric and the examples in the prompt: "GSM8K (5-shot)", arc_c_25shot, gsm8k_strict_match."""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache

from analysis.benchmarks import TASKS

ALIASES = {
    "arc_c": "arc_challenge",
    "arc_e": "arc_easy",
    "ai2_arc": "arc",
    "gsm_8k": "gsm8k",
    "grade_school_math": "gsm8k",
    "hella_swag": "hellaswag",
    "hswag": "hellaswag",
    "if_eval": "ifeval",
    "mmlupro": "mmlu_pro",
    "big_bench_hard": "bbh",
}
"""Another name -> the benchmark."""

SHOTS = re.compile(r"(?:^|_)(\d+)_?shots?(?:_|$)")
LIGHTEVAL = re.compile(r"\|(\d+)(\|\d+)?$")
"""arc:challenge|25: the examples in the prompt, as LightEval writes them."""

METRIC_WORDS = frozenset(
    (
        *("acc", "accuracy", "norm", "exact", "match", "em", "f1", "score", "loss", "ppl"),
        *("strict", "loose", "flexible", "extract", "prompt", "inst", "instruction", "level"),
        *("none", "pass", "1", "test", "val", "validation", "leaderboard"),
    )
)
"""Words beside a benchmark that leave it that benchmark."""

_BY_WORDS = {
    tuple(name.split("_")): benchmark
    for name, benchmark in (ALIASES | {task: task for task in TASKS}).items()
}
_LONGEST = max(map(len, _BY_WORDS))


def all_named(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Each name -> benchmark and metric; as they are where `named` knows none, or where two names
    would become one."""
    read = {name: named(name) or (name, "") for name in names}
    times = Counter(read.values())
    return {name: pair if times[pair] == 1 else (name, "") for name, pair in read.items()}


@cache
def named(name: str) -> tuple[str, str] | None:
    """Benchmark and metric, "" where the name has none; None where it holds no benchmark that is
    sorted, or more than one, or words that may make another one of it (gsm8k_platinum)."""
    shots = LIGHTEVAL.search(name)
    plain = "_".join(re.findall(r"[a-z0-9]+", LIGHTEVAL.sub("", name).lower()))
    if shots is None and (shots := SHOTS.search(plain)):
        plain = SHOTS.sub("_", plain)
    words = [word for word in plain.split("_") if word]
    for length in range(min(_LONGEST, len(words)), 0, -1):
        for start in range(len(words) - length + 1):
            benchmark = _BY_WORDS.get(tuple(words[start : start + length]))
            if benchmark is None:
                continue
            rest = words[:start] + words[start + length :]
            if not METRIC_WORDS.issuperset(rest):
                return None
            examples = f"{shots[1]}-shot" if shots else ""
            return benchmark, " ".join(filter(None, ("_".join(rest), examples)))
    return None
