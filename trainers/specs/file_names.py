"""Which keys of a spec name files: each such field is marked, and the mark is asked everywhere.

A marked file is looked for when a grid is read, is part of a trial's key by its content, runs under
its absolute path, and is brought to nodes that share no folder.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Literal, NamedTuple, TypeVar

from pydantic import BaseModel

Kind = Literal["file", "function", "model"]
"""A file; a `path.py:function`, where any other value names no file; the folder of a model, whose
name is part of a key: its content is among the fingerprints of a run."""

Spec = TypeVar("Spec", bound=BaseModel)


class NamesFile(NamedTuple):
    """Mark of a field whose value, where there is one, names a file or folder."""

    kind: Kind

    def renamed(self, value: str | None, to: Callable[[str], str]) -> str | None:
        """The field's value with the path in it as `to` has it."""
        if value is None or self.kind != "function":
            return value and to(value)
        path = function_file(value)
        return value if path is None else to(path) + value.removeprefix(path)


def function_file(reward: str) -> str | None:
    """The file of a `path.py:function`, or None of another name."""
    path, _, function = reward.rpartition(":")
    return path if path.endswith(".py") and function else None


@cache
def marks(spec: type[BaseModel]) -> dict[str, NamesFile]:
    """The marked fields of a kind of spec."""
    return {
        name: mark
        for name, field in spec.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, NamesFile)
    }


def given(specs: Iterable[BaseModel], kind: Kind) -> list[tuple[str, str]]:
    """(Field, value) of the marked fields of a kind that are given, each pair once."""
    return list(
        dict.fromkeys(
            (name, value)
            for spec in specs
            for name, mark in marks(type(spec)).items()
            if mark.kind == kind and (value := getattr(spec, name)) is not None
        )
    )


def with_files(spec: Spec, to: Callable[[str], str]) -> Spec:
    """The spec with each path of a marked field as `to` has it."""
    values = {name: getattr(spec, name) for name in marks(type(spec))}
    return spec.model_copy(
        update={
            name: marks(type(spec))[name].renamed(value, to)
            for name, value in values.items()
            if value is not None
        }
    )
