"""A grid file -> a frozen Grid, or every problem in it at once.

grids/lr_bs.yaml:12: stages.sft.kind: 'dop' is not a stage; use one of sft
"""

from pathlib import Path
from typing import Any

from sweep.gridfile import cells, checks, paths, screening, yaml
from sweep.gridfile import stages as stagefile
from sweep.gridfile.errors import Problems
from sweep.gridfile.keys.choosers import Decide, Search
from sweep.gridfile.keys.schema import (
    GRID_KEYS,
    Audit,
    Grid,
    Limits,
    Named,
    Pricing,
    Resources,
)
from sweep.gridfile.keys.trackers import Notify, Tracking
from sweep.gridfile.yaml import Document, KeyPath, dotted
from trainers.data.rows import sources
from trainers.models import load as models
from trainers.specs.data import Model
from trainers.specs.evaluation import OLD_ITEMS_PER_BATCH, EvaluateSpec
from trainers.tasks import benchmarks, items, task_files

OWN = "x-"
"""Begins keys that are the user's own, for what YAML's anchors share."""


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
        document = yaml.read(path)
        for override in overrides or []:
            _override(document, override)
    except yaml.YamlProblem as error:
        raise GridError([str(error)]) from error
    document.data = {k: v for k, v in document.data.items() if not k.startswith(OWN)}
    checker = _Checker(document)
    document.data = checker.data = paths.expanded(document.data, checker.problems)
    return checker.grid()


def _override(document: Document, override: str) -> None:
    where = f"--set {override}"
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise yaml.YamlProblem(where, "is not of the form stages.sft.epochs=1")
    target: Any = document.data
    for depth, part in enumerate(parts[:-1]):
        if part not in target:
            target[part] = {}
            document.places[tuple(parts[: depth + 1])] = where
        target = target[part]
        if not isinstance(target, dict):
            raise yaml.YamlProblem(where, f"{'.'.join(parts[: depth + 1])} holds no keys")
    value = yaml.parse_value(text, where)
    target[parts[-1]] = value.data
    path = tuple(parts)
    for known in (document.places, document.written):
        for place in [place for place in known if place[: len(path)] == path]:
            del known[place]
    document.places[path] = where
    document.written |= {(*path, *place): text for place, text in value.written.items()}


class _Checker:
    """Goes through a document once and collects what is wrong with it."""

    def __init__(self, document: Document):
        self.data = document.data
        self.problems = Problems(document)
        self.notes: list[str] = []

    def grid(self) -> Grid:
        data, validated = self.data, self.problems.validated
        for key in data.keys() - set(GRID_KEYS):
            self.problems.unknown((key,), GRID_KEYS)
        if isinstance(data.get("evaluate"), dict) and OLD_ITEMS_PER_BATCH in data["evaluate"]:
            self.note(
                ("evaluate", OLD_ITEMS_PER_BATCH), "is called items_per_batch now; read as that"
            )
        for key in ("name", "model", "stages", "evaluate"):
            if key not in data and not (key == "stages" and data.get("references")):
                self.problems.add((), f"the key `{key}` is missing")
        for key in data.keys() & set(GRID_KEYS) - {"search", "decide"}:
            if data[key] is None:
                self.problems.add((key,), "has no value")
        parts: dict[str, Any] = {
            "model": validated(Model, data.get("model"), ("model",)),
            "references": self.references(data.get("references", []), data.get("model")),
            "evaluate": validated(EvaluateSpec, data.get("evaluate"), ("evaluate",)),
            "resources": validated(Resources, data.get("resources", {}), ("resources",)),
            "limits": validated(Limits, data.get("limits", {}), ("limits",)),
            "price": validated(Pricing, data.get("price", {}), ("price",)),
            "tracking": validated(Tracking, data.get("tracking", {}), ("tracking",)),
            "notify": validated(Notify, _listed(data.get("notify")), ("notify",)),
            "search": validated(Search, data.get("search"), ("search",)),
            "decide": validated(Decide, data.get("decide"), ("decide",)),
            "audit": validated(Audit, data.get("audit", {}), ("audit",)),
            "stages": stagefile.read(data, self.problems),
        }
        name = validated(Named, {"name": data["name"]}, ()) if "name" in data else None
        self.names()
        if not self.problems.lines:
            asked = [parts["resources"], *(stage.resources for stage in parts["stages"].values())]
            for path, message in checks.prices(parts["limits"], parts["price"], asked):
                self.problems.add(path, message)
            for path, message in checks.positions(parts["model"].name, parts["stages"]):
                self.problems.add(path, message)
            for path, message in checks.across(**{key: parts[key] for key in checks.READ}):
                self.problems.add(path, message)
        if self.problems.lines or name is None:
            raise GridError(self.problems.sorted())
        told = [*cells.in_two_stages(parts["stages"])]
        for stage in parts["stages"].values():
            told += cells.unread(stage)
        for path, message in told:
            self.note(path, message)
        parts["stages"] = screening.with_screening(parts["stages"], parts["decide"])
        return Grid(name=name.name, declared=data, notes=tuple(self.notes), **parts)

    def note(self, path: KeyPath, message: str) -> None:
        """Something that was read otherwise than it was written."""
        self.notes.append(f"{dotted(path)}: {message}")

    def names(self) -> None:
        """Models, data and benchmarks that cannot exist; hub names are taken on trust."""
        data = self.data
        self.named(("model",), data.get("model"), models.problem)
        for index, name in enumerate(_list(data.get("references"))):
            self.named(("references", index), name, models.problem)
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
        audited = _list(audit.get("contamination")) if isinstance(audit, dict) else []
        labels = [items.label(name) if isinstance(name, str) else name for name in audited]
        for index, name in enumerate(audited):
            path = ("audit", "contamination", index)
            self.named(path, name, items.problem)
            self.local_copy(path, name, data.get("evaluate"))
            if labels[index] in labels[:index]:
                self.problems.add(path, items.twice(labels[index]))
        evaluate = data.get("evaluate")
        if not isinstance(evaluate, dict):
            return
        names = [n for n in _list(evaluate.get("benchmarks")) if isinstance(n, str)]
        known = [benchmarks.canonical(name) for name in names]
        for index, name in enumerate(names):
            path = ("evaluate", "benchmarks", index)
            if name not in benchmarks.OF_STAGES:
                self.named(path, name, benchmarks.problem)
            if known[index] in known[:index]:
                self.problems.add(path, f"{name!r} stands twice")
        folder = evaluate.get("data_dir")
        if isinstance(folder, str) and not Path(folder).is_dir():
            self.problems.add(("evaluate", "data_dir"), f"no folder {folder!r} (from {Path.cwd()})")

    def local_copy(self, path: KeyPath, given: Any, evaluate: Any) -> None:
        """Scores are joined with the audit by the documents that are evaluated, not by a copy."""
        scored = _list(evaluate.get("benchmarks")) if isinstance(evaluate, dict) else []
        labels = {Path(n).stem if task_files.is_path(n) else n: n for n in scored if type(n) is str}
        if isinstance(given, str) and (label := items.label(given)) in labels and label != given:
            self.problems.add(
                path,
                f"{given!r}: {label} is evaluated here; give its name alone, {labels[label]!r} "
                "(its items are those of evaluate.data_dir, of its task file, or of the hub)",
            )

    def data_names(self, path: KeyPath, data: Any) -> None:
        if not isinstance(data, list):
            self.named(path, data, sources.problem)
        for index, source in enumerate(_list(data)):
            self.named((*path, index), source, sources.problem)

    def named(self, path: KeyPath, value: Any, problem_of) -> None:
        name = _name(value)
        if isinstance(name, str) and (problem := problem_of(name)):
            self.problems.add(path, problem)

    def references(self, data: Any, model: Any) -> tuple[Model, ...]:
        if not isinstance(data, list):
            self.problems.add(("references",), f"{data!r} is not a list of models")
            return ()
        specs = []
        for index, entry in enumerate(data):
            path, name = ("references", index), _name(entry)
            if not isinstance(name, str):
                self.problems.add(path, f"{entry!r} is no model; give a name, or name and revision")
            elif name == _name(model):
                self.problems.add(path, f"{name!r} is the grid's model, which is scored anyway")
            elif name in map(_name, data[:index]):
                self.problems.add(path, f"{name!r} is named twice")
            else:
                specs.append(self.problems.validated(Model, entry, path))
        return tuple(spec for spec in specs if spec is not None)


def _name(value: Any) -> Any:
    """Of a model or a data set, which may be a name alone."""
    return value.get("name") if isinstance(value, dict) else value


def _listed(notify: Any) -> Any:
    """A list of URLs as the mapping that it stands for."""
    return {"to": notify} if isinstance(notify, list) else notify


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


if __name__ == "__main__":
    import json
    import sys

    from sweep.gridfile.keys.json_schema import schema

    if sys.argv[1:] != ["--schema"]:
        sys.exit("usage: python -m sweep.gridfile.load --schema")
    print(json.dumps(schema(), indent=1))
