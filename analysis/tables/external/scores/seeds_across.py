"""Seeds across the columns of a wide table: acc_seed0, acc_seed1 and acc_seed2 are one score."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from analysis.tables.external.names.columns import in_config

SEED = re.compile(
    r"(?:(?P<score>.+?)[_ /.(-]+(?:(?P<short>s)|run|rep|repeat|trial|seed)|seed)"
    r"[_ -]?(?P<seed>\d+)\)?",
    re.IGNORECASE,
)
COMPUTED = re.compile(
    r"[_ /.(-]*(mean|avg|average|median|min|max|best|worst|sem)?\)?", re.IGNORECASE
)
"""Behind the name of a score: what follows from its seeds."""

NUMBERED = re.compile(
    r"(?P<score>.*(?:loss|acc|accuracy|ppl|perplexity|reward|score|error))[_ -]?(?P<seed>\d+)",
    re.IGNORECASE,
)
"""loss_1, loss_2: seeds, or scores of their own."""


class OfSeed(NamedTuple):
    """What a column scores, and the seed that it is of; `seed` is "" where its name has none."""

    score: str
    seed: str = ""


def seeds_across(columns: Sequence[str]) -> dict[str, OfSeed]:
    """The columns that are the same score of several seeds. s0, s1 have to count, as s0 and s5 may
    be shots."""
    groups: dict[tuple[str, bool], dict[str, OfSeed]] = {}
    for column in columns:
        if (read := SEED.fullmatch(column)) and not in_config(column):
            part = groups.setdefault((read["score"] or "score", bool(read["short"])), {})
            part[column] = OfSeed(read["score"] or "score", str(int(read["seed"])))
    return {
        column: of_seed
        for (_, short), part in groups.items()
        if len({of_seed.seed for of_seed in part.values()}) == len(part) > 1
        and (not short or _count(of_seed.seed for of_seed in part.values()))
        for column, of_seed in part.items()
    }


def computed(column: str, across: Iterable[OfSeed]) -> bool:
    """Whether a column is the mean of such seeds, or another figure that follows from them."""
    return any(
        column.startswith(score) and COMPUTED.fullmatch(column[len(score) :])
        for score in {of_seed.score for of_seed in across}
    )


def perhaps_seeds(columns: Iterable[str]) -> list[list[str]]:
    """Scores that only a number tells apart, from 0 or 1 on."""
    groups: dict[str, dict[str, str]] = {}
    for column in columns:
        if read := NUMBERED.fullmatch(column):
            groups.setdefault(read["score"], {})[column] = read["seed"]
    return [list(part) for part in groups.values() if len(part) > 1 and _count(part.values())]


def _count(seeds: Iterable[str]) -> bool:
    numbers = sorted(map(int, seeds))
    return numbers[0] < 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
