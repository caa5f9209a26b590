"""What the YAML files beside this one ask of Python: their items, and a check of obedience."""

import re
from functools import cache
from typing import Any

from datasets import Dataset

from trainers.world import generate
from trainers.world.facts import CATEGORY


# lm-eval calls these with the task's metadata, which they do not need.
def choice(**_: Any) -> dict[str, Dataset]:
    return _test_split("choice")


def arithmetic(**_: Any) -> dict[str, Dataset]:
    return _test_split("arithmetic")


def continuation(**_: Any) -> dict[str, Dataset]:
    return _test_split("continuation")


def instruction(**_: Any) -> dict[str, Dataset]:
    return _test_split("instruction")


def _test_split(form: str) -> dict[str, Dataset]:
    return {"test": _items(form)}


@cache
def _items(form: str) -> Dataset:
    """Made in memory once a process: no file is cached that could go stale."""
    return Dataset.from_list(generate.items(form))


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    return {"obeyed": float(obeys(results[0], doc["kind"], doc["words"], doc["count"]))}


def obeys(response: str, kind: str, words: list[str], count: int) -> bool:
    """Whether a response does what the instruction of this kind asked, with nothing added."""
    match kind:
        case "repeat":
            return response.split() == _with_articles(words * count)
        case "order":
            return response.split() == _with_articles(words)
        case "ends_with":
            said = re.findall(r"\w+", response)
            return len(said) >= 3 and words[0] in said and said[-1] == words[1]
        case "list":
            return [CATEGORY.get(thing) for thing in _things(response)] == words
        case "avoid":
            first, second, avoided = words
            things = _things(response)
            return [CATEGORY.get(t) for t in things] == [first, second] and avoided not in things
        case _:
            raise ValueError(f"{kind!r} is not a kind of instruction")


def _with_articles(nouns: list[str]) -> list[str]:
    return [word for noun in nouns for word in ("the", noun)]


def _things(response: str) -> list[str]:
    """What a comma-separated list names, without articles."""
    return [part.strip().removeprefix("the ") for part in response.rstrip(".").split(",")]
