"""What the YAML files beside this one ask of Python: their items, and a check of obedience."""

import re
from typing import Any

from datasets import Dataset

from trainers.world import generate
from trainers.world.facts import CATEGORY


def choice(**_: Any) -> dict[str, Dataset]:
    return _test_split("choice")


def arithmetic(**_: Any) -> dict[str, Dataset]:
    return _test_split("arithmetic")


def continuation(**_: Any) -> dict[str, Dataset]:
    return _test_split("continuation")


def instruction(**_: Any) -> dict[str, Dataset]:
    return _test_split("instruction")


def _test_split(form: str) -> dict[str, Dataset]:
    """Made in memory at every load: nothing is cached that could go stale."""
    return {"test": Dataset.from_list(generate.items(form))}


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    return {"obeyed": float(obeys(results[0], doc["kind"], doc["words"], doc["count"]))}


def obeys(response: str, kind: str, words: list[str], count: int) -> bool:
    """Whether a response does what the instruction of this kind asked, with nothing added."""
    match kind:
        case "repeat":
            return response.split() == _with_articles(words * count)
        case "capitals":
            return response.split() == [word.upper() for word in _with_articles(words)]
        case "backwards":
            return response.split() == _with_articles(words[::-1])
        case "ends_with":
            said = re.findall(r"\w+", response)
            return len(said) >= 3 and words[0] in said and said[-1] == words[1]
        case "list":
            return _categories(response) == [words[0]] * count + [words[1]]
        case "avoid":
            return _categories(response) == [words[0]] * count and words[1] not in response
        case _:
            raise ValueError(f"{kind!r} is not a kind of instruction")


def _with_articles(nouns: list[str]) -> list[str]:
    return [word for noun in nouns for word in ("the", noun)]


def _categories(response: str) -> list[str | None]:
    """The categories of a comma-separated list's things; a thing named twice counts as none."""
    named = [part.strip().rstrip(".").removeprefix("the ") for part in response.split(",")]
    return [None if thing in named[:i] else CATEGORY.get(thing) for i, thing in enumerate(named)]
