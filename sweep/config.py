"""A grid file -> a frozen Grid, or every problem in it at once.

grids/lr_bs.yaml:12: stages.sft.kind: 'dop' is not a stage; use one of sft
"""

import difflib
import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from sweep import graph, yamlfile
from sweep.axes import RATIO, expand, ratio_cell
from sweep.grid import (
    BASE,
    EACH,
    GRID_KEYS,
    NAME,
    SAME_FOR_ALL,
    STAGE_KEYS,
    Arm,
    Audit,
    Best,
    Grid,
    Keep,
    Limits,
    Model,
    Named,
    Pricing,
    Resources,
    Search,
    Stage,
    Tracking,
    TrialResources,
)
from sweep.yamlfile import Document, KeyPath, dotted
from trainers import audit_items, benchmarks, models, sources
from trainers.kinds import KINDS, StageSpec
from trainers.spec import MANY, ONE, DataSpec, EvaluateSpec, Strict, TrainingSpec

Found = TypeVar("Found", bound=Strict)


MAX_CELLS = 20_000

KEY = r"[0-9a-f]{4,12}"
"""The beginning of a trial's key."""


class GridError(Exception):
    """All problems of a grid file, a line each."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


def load(path: Path, overrides: list[str] | None = None) -> Grid:
    """Read and check a grid file with `--set key=value` overrides applied.

    Raises:
        GridError: with every problem found, each naming file, line, key, value and what is allowed.
    """
    try:
        document = yamlfile.read(path)
        for override in overrides or []:
            _override(document, override)
    except yamlfile.YamlProblem as error:
        raise GridError([str(error)]) from error
    return _Checker(document).grid()


def _override(document: Document, override: str) -> None:
    where = f"--set {override}"
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise yamlfile.YamlProblem(where, "is not of the form stages.sft.epochs=1")
    target: Any = document.data
    for depth, part in enumerate(parts[:-1]):
        if part not in target:
            target[part] = {}
            document.places[tuple(parts[: depth + 1])] = where
        target = target[part]
        if not isinstance(target, dict):
            raise yamlfile.YamlProblem(where, f"{'.'.join(parts[: depth + 1])} holds no keys")
    target[parts[-1]] = yamlfile.parse_value(text, where)
    below = [place for place in document.places if place[: len(parts)] == tuple(parts)]
    for place in below:
        del document.places[place]
    document.places[tuple(parts)] = where


class _Checker:
    """Goes through a document once and collects what is wrong with it."""

    def __init__(self, document: Document):
        self.document = document
        self.problems: list[str] = []

    def grid(self) -> Grid:
        data = self.document.data
        for key in data.keys() - set(GRID_KEYS):
            self.unknown((key,), GRID_KEYS)
        for key in ("name", "model", "stages", "evaluate"):
            if key not in data:
                self.problem((), f"the key `{key}` is missing")
        for key in data.keys() & set(GRID_KEYS) - {"search"}:
            if data[key] is None:
                self.problem((key,), "has no value")
        parts: dict[str, Any] = {
            "model": self.validated(Model, data.get("model"), ("model",)),
            "evaluate": self.validated(EvaluateSpec, data.get("evaluate"), ("evaluate",)),
            "resources": self.validated(Resources, data.get("resources", {}), ("resources",)),
            "limits": self.validated(Limits, data.get("limits", {}), ("limits",)),
            "price": self.validated(Pricing, data.get("price", {}), ("price",)),
            "tracking": self.validated(Tracking, data.get("tracking", {}), ("tracking",)),
            "search": self.validated(Search, data.get("search"), ("search",)),
            "audit": self.validated(Audit, data.get("audit", {}), ("audit",)),
            "stages": self.stages(data.get("stages")),
        }
        name = self.validated(Named, {"name": data["name"]}, ()) if "name" in data else None
        self.names(data)
        if not self.problems:
            for path, message in graph.across(**{key: parts[key] for key in graph.READ}):
                self.problem(path, message)
        if self.problems or name is None:
            raise GridError(sorted(self.problems, key=_line))
        return Grid(name=name.name, declared=data, **parts)

    def problem(self, path: KeyPath, message: str) -> None:
        key = f"{dotted(path)}: " if path else ""
        line = f"{self.document.place(path)}: {key}{message}"
        if line not in self.problems:
            self.problems.append(line)

    def unknown(self, path: KeyPath, allowed) -> None:
        near = difflib.get_close_matches(str(path[-1]), list(allowed), n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"use one of {', '.join(sorted(allowed))}"
        self.problem(path, f"unknown key; {hint}")

    def validated(self, model: type[Found], data: Any, path: KeyPath) -> Found | None:
        if data is None:
            return None
        if not isinstance(data, dict | str):
            self.problem(path, f"{data!r} is not a mapping")
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
                self.problem(path, "is missing")
            case "value_error":
                self.problem(path, str(detail["ctx"]["error"]))
            case _:
                self.problem(path, f"{detail['input']!r}: {_lower_first(detail['msg'])}")

    def names(self, data: dict[str, Any]) -> None:
        """Models, data and benchmarks that cannot exist; hub names are taken on trust."""
        self.named(("model",), data.get("model"), models.problem)
        stages = data.get("stages")
        for stage, settings in stages.items() if isinstance(stages, dict) else ():
            if isinstance(settings, dict):
                self.data_names(("stages", stage, "data"), settings.get("data"))
                for index, arm in enumerate(_list(settings.get("arms"))):
                    override = arm.get("set") if isinstance(arm, dict) else None
                    if isinstance(override, dict):
                        path = ("stages", stage, "arms", index, "set", "data")
                        self.data_names(path, override.get("data"))
        audit = data.get("audit")
        for index, name in enumerate(
            _list(audit.get("contamination")) if isinstance(audit, dict) else ()
        ):
            path = ("audit", "contamination", index)
            self.named(path, name, audit_items.problem)
            self.local_copy(path, name, data.get("evaluate"))
        evaluate = data.get("evaluate")
        if not isinstance(evaluate, dict):
            return
        names = _list(evaluate.get("benchmarks"))
        for index, name in enumerate(names):
            path = ("evaluate", "benchmarks", index)
            self.named(path, name, benchmarks.problem)
            if name in names[:index]:
                self.problem(path, f"{name!r} stands twice")
        folder = evaluate.get("data_dir")
        if isinstance(folder, str) and not Path(folder).is_dir():
            self.problem(("evaluate", "data_dir"), f"no folder {folder!r} (from {Path.cwd()})")

    def local_copy(self, path: KeyPath, given: Any, evaluate: Any) -> None:
        """Scores are joined with the audit by the documents that are evaluated, not by a copy."""
        scored = _list(evaluate.get("benchmarks")) if isinstance(evaluate, dict) else []
        if isinstance(given, str) and "=" in given and audit_items.label(given) in scored:
            label = audit_items.label(given)
            self.problem(
                path,
                f"{given!r}: {label} is evaluated here; give its name alone (its items are "
                "those of evaluate.data_dir, or of the hub)",
            )

    def data_names(self, path: KeyPath, data: Any) -> None:
        if not isinstance(data, list):
            self.named(path, data, sources.problem)
        for index, source in enumerate(_list(data)):
            self.named((*path, index), source, sources.problem)

    def judges(self, path: KeyPath, cells: Sequence[tuple[str, TrainingSpec]]) -> None:
        """Reward models that stages are to be rewarded by have to be there."""
        for name in dict.fromkeys(getattr(spec, "reward_model", None) for _, spec in cells):
            if name is not None and not (Path(name) / "config.json").is_file():
                self.problem(
                    (*path, "reward_model"),
                    f"no model in the folder {name!r} (from {Path.cwd()}); give the `model` folder "
                    "of a trial of a reward stage",
                )

    def named(self, path: KeyPath, value: Any, problem_of) -> None:
        name = value.get("name") if isinstance(value, dict) else value
        if isinstance(name, str) and (problem := problem_of(name)):
            self.problem(path, problem)

    def stages(self, data: Any) -> dict[str, Stage]:
        if data is None:
            return {}
        if not isinstance(data, dict) or not data:
            self.problem(("stages",), "is not a mapping from a stage's name to its settings")
            return {}
        stages = {}
        for name, settings in data.items():
            stage = self.stage(name, settings)
            if stage is not None:
                stages[name] = stage
        for path, message in graph.starts(data):
            self.problem(path, message)
        return stages

    def parent(self, value: Any, path: KeyPath) -> Best | str | None:
        """`each`, `best`, {best: a benchmark}, or the beginning of a key."""
        if value == "best":
            return Best()
        if isinstance(value, dict):
            return self.validated(Best, value, path)
        if value == EACH or (isinstance(value, str) and re.fullmatch(KEY, value)):
            return value
        self.problem(
            path, f"{value!r}: use each, best, {{best: a benchmark}}, or a model's key in quotes"
        )
        return None

    def stage(self, name: str, settings: Any) -> Stage | None:
        path = ("stages", name)
        if not isinstance(settings, dict):
            self.problem(path, "is not a mapping of settings")
            return None
        if name == BASE:
            self.problem(path, "`base` means the grid's model; give the stage another name")
        if not re.fullmatch(NAME, name):
            self.problem(path, "a stage's name has letters, digits and . _ - alone, at most 64")
        kind = settings.get("kind")
        if kind is None and settings.keys() <= set(STAGE_KEYS):
            self.absent(name, settings)
            return None
        if not isinstance(kind, str) or kind not in KINDS:
            what = "is missing" if kind is None else f"{kind!r} is not a stage"
            self.problem((*path, "kind"), f"{what}; use one of {', '.join(KINDS)}")
            return None
        spec = KINDS[kind]
        axes = self.axes(settings.get("grid", {}), (*path, "grid"), spec)
        arms = self.arms(settings.get("arms", []), (*path, "arms"), spec)
        plain = {key: value for key, value in settings.items() if key not in STAGE_KEYS}
        for key in plain.keys() & axes.keys():
            self.problem((*path, key), "is an axis of `grid` too; give it in one place")
        keep = settings.get("keep", "all")
        if keep not in get_args(Keep):
            self.problem((*path, "keep"), f"{keep!r}: use one of {', '.join(get_args(Keep))}")
        resources = self.trial_resources(settings.get("resources", {}), (*path, "resources"))
        parent = self.parent(settings.get("parent", EACH), (*path, "parent"))
        cells = self.cells(name, spec, plain, axes, arms)
        self.judges(path, cells or [])
        if parent is None or cells is None or resources is None or keep not in get_args(Keep):
            return None
        return Stage(
            name=name,
            start_from=str(settings.get("start_from", BASE)),
            parent=parent,
            keep=keep,
            resources=resources,
            axes=axes,
            cells=tuple(cells),
        )

    def trial_resources(self, own: Any, path: KeyPath) -> TrialResources | None:
        """The grid's, with what the stage says in their place."""
        if not isinstance(own, dict):
            self.problem(path, f"{own!r} is not a mapping")
            return None
        grids = self.document.data.get("resources")
        shared = {
            key: value
            for key, value in (grids if isinstance(grids, dict) else {}).items()
            if key in TrialResources.model_fields
        }
        return self.validated(TrialResources, shared | own, path)

    def absent(self, name: str, settings: dict[str, Any]) -> None:
        """Axes and the like for a stage that is not there."""
        others = [other for other in self.document.data["stages"] if other != name]
        near = difflib.get_close_matches(name, others, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"the stages are {', '.join(others)}"
        what = ", ".join(settings) or "nothing"
        self.problem(("stages", name), f"has {what} but no `kind`, so it is no stage; {hint}")

    def cells(self, name, spec, plain, axes, arms) -> list[tuple[str, StageSpec]] | None:
        """Every cell as its own validated spec, arm after arm, the last axis fastest."""
        before = len(self.problems)
        count = len(arms) * math.prod(len(values) or 1 for values in axes.values())
        if count > MAX_CELLS:
            path = ("stages", name, "grid")
            self.problem(path, f"{count:,} cells; at most {MAX_CELLS:,} are planned at once")
            return None
        broken = {key for key, values in axes.items() if not values}
        axes = {key: values for key, values in axes.items() if values}
        cells = []
        for arm_index, arm in arms:
            for values in itertools.product(*axes.values()):
                cell = dict(zip(axes, values, strict=True))
                try:
                    cell |= ratio_cell(cell, plain)
                except ValueError as error:
                    self.problem(("stages", name, "grid", RATIO), str(error))
                    continue
                try:
                    cell.pop(RATIO, None)
                    cells.append((arm.name, spec.model_validate({**plain, **cell, **arm.set})))
                except ValidationError as error:
                    for detail in error.errors():
                        if detail["type"] == "missing" and detail["loc"][0] in broken:
                            continue
                        path = _place_in_stage(name, detail["loc"], cell, axes, arm, arm_index)
                        self.detail(detail, path, spec)
        return cells if len(self.problems) == before and not broken else None

    def axes(self, data: Any, path: KeyPath, spec: type[Strict]) -> dict[str, tuple]:
        if not isinstance(data, dict):
            self.problem(path, "is not a mapping from a key to its values")
            return {}
        axes = {}
        for key, values in data.items():
            scalars = {*spec.model_fields, RATIO} - {"kind", *SAME_FOR_ALL}
            if key not in scalars:
                self.unknown((*path, key), scalars)
                continue
            try:
                axes[key] = tuple(expand(values))
            except ValueError as error:
                self.problem((*path, key), str(error))
                axes[key] = ()
        return axes

    def arms(self, data: Any, path: KeyPath, spec: type[Strict]) -> list[tuple[int, Arm]]:
        """The arms with their place in the file; one without a name or settings where there are
        none."""
        if not isinstance(data, list):
            self.problem(path, "is not a list of {name: ..., set: {...}}")
            return []
        arms = [(index, self.validated(Arm, arm, (*path, index))) for index, arm in enumerate(data)]
        for index, arm in arms:
            for key in arm.set if arm else {}:
                allowed = set(spec.model_fields) - {"kind", "data_seed"}
                if key not in allowed:
                    self.unknown((*path, index, "set", key), allowed)
        names = [arm.name for _, arm in arms if arm]
        if len(set(names)) < len(names):
            self.problem(path, "two arms have one name")
        found = [(index, arm) for index, arm in arms if arm]
        return found or [(0, Arm.model_construct(name="", set={}))]


def _place_in_stage(name, loc, cell, axes, arm: Arm, arm_index: int) -> KeyPath:
    """Where in the file the value of a stage's field was given: in an arm, on an axis, or
    plainly."""
    path: KeyPath = ("stages", name)
    if not loc:
        return path
    key = loc[0]
    if key == "data":
        loc = tuple(part for part in loc if part not in (ONE, MANY))
    if key in arm.set:
        return (*path, "arms", arm_index, "set", *loc)
    if key in axes:
        return (*path, "grid", key, axes[key].index(cell[key]))
    if key in cell:
        return (*path, "grid", RATIO)
    return (*path, *loc)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


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


if __name__ == "__main__":
    import json
    import sys

    from sweep.schema import schema

    if sys.argv[1:] != ["--schema"]:
        sys.exit("usage: python -m sweep.config --schema")
    print(json.dumps(schema(), indent=1))
