"""What is wrong with a grid file, each problem with its place and what is allowed there."""

from collections.abc import Iterable
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from sweep.gridfile import foreign
from sweep.gridfile.keys.schema import STAGE_KEYS
from sweep.gridfile.yaml import Document, KeyPath, dotted
from trainers.specs.data import DataSpec
from trainers.specs.fields import Strict
from trainers.specs.training import TrainingSpec

MOST = 100
"""Problems that are shown; of the others, how many there are."""

Validated = TypeVar("Validated", bound=Strict)


class Problems:
    """Collects them, a line each: file:line: key: value: what is allowed."""

    def __init__(self, document: Document):
        self.document = document
        self.lines: list[str] = []
        self._seen: set[str] = set()

    def add(self, path: KeyPath, message: str) -> None:
        key = f"{dotted(path)}: " if path else ""
        line = f"{self.document.place(path)}: {key}{message}"
        if line not in self._seen and len(self._seen) < MOST:
            self.lines.append(line)
        self._seen.add(line)

    def unknown(self, path: KeyPath, allowed: Iterable[str]) -> None:
        if len(self._seen) >= MOST:
            return self.add(path, "unknown key")
        off = self.document.written.get(path, "").lower() == "false"
        self.add(path, f"unknown key; {foreign.hint(str(path[-1]), list(allowed), off)}")

    def validated(self, model: type[Validated], data: Any, path: KeyPath) -> Validated | None:
        if data is None:
            return None
        if not isinstance(data, dict | str):
            self.add(path, f"{data!r} is not a mapping")
            return None
        try:
            return model.model_validate(data)
        except ValidationError as error:
            self.report(error, path, model)
            return None

    def report(self, error: ValidationError, path: KeyPath, model: type[Strict]) -> None:
        for detail in error.errors():
            self.detail(detail, (*path, *detail["loc"]), model)

    def detail(self, detail: Any, path: KeyPath, model: type[Strict]) -> None:
        match detail["type"]:
            case "extra_forbidden":
                self.unknown(path, _fields_at(model, detail["loc"][:-1]))
            case "missing":
                self.add(path, "is missing")
            case "value_error":
                self.add(path, str(detail["ctx"]["error"]))
            case _:
                self.add(path, self._explained(detail, path))

    def _explained(self, detail: Any, path: KeyPath) -> str:
        """pydantic's sentence, or a better one for what YAML and other tools make likely."""
        given, kind = detail["input"], detail["type"]
        written = self.document.written.get(path)
        if kind == "string_type" and written is not None:
            read = "true or false" if isinstance(given, bool) else f"the number {given!r}"
            return f"{written} is read as {read}; put it in quotes: {written!r}"
        if kind in ("int_type", "int_parsing", "float_type", "float_parsing"):
            what = "number" if kind.startswith("float") else "integer"
            if isinstance(given, str) and (number := foreign.number(given)) is not None:
                return f"{given!r} is a text, not a valid {what}; write {number} without quotes"
            if isinstance(given, list) and path[:1] == ("stages",) and len(path) == 3:
                return (
                    f"{given!r}: a list; put it into `grid:` of the stage, which tries each of its "
                    f"values: grid: {{{path[-1]}: {given!r}}}"
                )
            if isinstance(given, float) and given.is_integer():
                return f"{given!r} is not a valid integer; write {int(given)}"
            if isinstance(given, float) and path == ("evaluate", "limit"):
                return f"{given!r}: items per task, an integer; shares of a task are not taken"
        problem = f"{given!r}: {_lower_first(detail['msg'])}"
        if kind == "literal_error":
            key = next(part for part in reversed(path) if isinstance(part, str))
            meant = foreign.value_hint(key, given, detail["ctx"]["expected"])
            return f"{problem}; {meant}" if meant else problem
        return problem

    def sorted(self) -> list[str]:
        more = len(self._seen) - len(self.lines)
        return sorted(self.lines, key=_line) + ([f"and {more:,} more"] if more else [])


def _fields_at(model: type[Strict], loc: tuple) -> list[str]:
    if "data" in loc:
        return list(DataSpec.model_fields)
    for part in loc:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        choices = [kind for kind in (inner, *get_args(inner)) if isinstance(kind, type)]
        strict = [kind for kind in choices if issubclass(kind, Strict)]
        if not strict:
            break
        model = strict[0]
    extra = STAGE_KEYS if issubclass(model, TrainingSpec) else ()
    return [*model.model_fields, *extra]


def _line(problem: str) -> tuple[bool, int]:
    """Sorts messages by the file's lines, what was given on the command line last."""
    line = problem.split(": ", 1)[0].rpartition(":")[2]
    return (not line.isdigit(), int(line) if line.isdigit() else 0)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
