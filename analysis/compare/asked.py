"""Whether two runs asked their models a benchmark's questions in the same way."""

import json
from typing import Any

from analysis.compare.source import Source

WAYS = {
    "preset": "preset",
    "shots": "shots",
    "tasks": "task version",
    "template": "chat template",
    "max_length": "max_length",
    "max_new_tokens": "max_new_tokens",
    "tokens": "held-out tokens",
    "loss": "loss",
    "beta": "beta",
    "lm_eval": "lm-eval",
}
"""Fields of a score's settings that decide what a model is asked, and their names in a sentence."""

SHOWN = 20
"""Characters of a value that a sentence still holds; a chat template has more."""


def asked_differently(
    first: Source, keys: tuple[str, ...], second: Source, others: tuple[str, ...], benchmark: str
) -> tuple[str, ...]:
    """In what the scores of two runs differ beside their models: "shots 5 and 0", "items", "prompts
    as rendered". Empty where nothing does, and of tables, which do not say.

    Items do not differ where one run answered a part of the other's: the shared ones are compared.

    Raises:
        ResultsError: a record cannot be read.
    """
    one, other = _settings(first, keys, benchmark), _settings(second, others, benchmark)
    if one is None or other is None:
        return ()
    ways = [
        _differs(name, one[field], other[field])
        for field, name in WAYS.items()
        if field in one and field in other and one[field] != other[field]
    ]
    same_limit = one.get("limit") == other.get("limit")
    if not ways and same_limit and _unlike("documents", one, other):
        ways = ["items"]
    if not ways and same_limit and _unlike("prompts", one, other):
        ways = ["prompts as rendered"]
    return tuple(ways)


def _unlike(field: str, one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.get(field, other.get(field)) != other.get(field, one.get(field))


def _differs(name: str, one: Any, other: Any) -> str:
    """Tasks' values are named where those of one task alone differ from the rest."""
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = {(str(one.get(task)), str(other.get(task))) for task in one | other}
        unlike = sorted(pair for pair in pairs if pair[0] != pair[1])
        return f"{name} {' and '.join(unlike[0])}" if len(unlike) == 1 else name
    texts = [value if isinstance(value, str) else json.dumps(value) for value in (one, other)]
    return name if max(map(len, texts)) > SHOWN else f"{name} {' and '.join(texts)}"


def _settings(source: Source, keys: tuple[str, ...], benchmark: str) -> dict[str, Any] | None:
    """With which the first of some trials was scored."""
    known = source.score_settings
    return next((known[key, benchmark] for key in keys if (key, benchmark) in known), None)
