"""A grid file -> a frozen Grid, or every problem in it at once.

grids/lr_bs.yaml:12: stages.sft.kind: 'dop' is not a stage; use one of sft
"""

import difflib
import itertools
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field, ValidationError, model_validator

from sweep import yamlfile
from sweep.axes import RATIO, Scalar, expand, ratio_cell
from sweep.yamlfile import Document, KeyPath, dotted
from trainers import benchmarks, models, sources
from trainers.benchmarks import HELDOUT
from trainers.spec import Count, EvaluateSpec, Positive, SftSpec, Share, Strict

KINDS: dict[str, type[SftSpec]] = {"sft": SftSpec}
"""Stage kinds and their specs."""

BASE = "base"
"""What a stage starts from when it starts from the grid's model; no stage may have this name."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


Found = TypeVar("Found", bound=Strict)


class GridError(Exception):
    """All problems of a grid file, a line each."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


class Model(Strict):
    name: str
    """`tiny`, a local folder, or a model id on the hub."""
    revision: str | None = None
    """Commit, tag or branch of a hub model."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Resources(Strict):
    """What one trial gets, and how many run at once. Never part of a trial's identity."""

    cpus_per_trial: Annotated[float, Field(gt=0)] = 1.0
    gpus_per_trial: Annotated[float, Field(ge=0)] = 0.0
    """A share of one GPU, or whole GPUs."""
    max_concurrent: Count | None = None
    """Trials at once; as many as fit when empty."""
    retries: Annotated[int, Field(ge=0)] = 1
    """Further attempts at a trial that failed, within one start of the command."""
    reuse_workers: bool | None = None
    """Run the next trial in the process of the last; when empty, on CPUs only."""

    @model_validator(mode="after")
    def _whole_gpus(self):
        if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise ValueError("gpus_per_trial: a share below 1, or a whole number")
        return self


class Limits(Strict):
    """When one start of the command stops on its own; the same command goes on from there."""

    max_hours: Positive | None = None
    """Start no trial after this many hours; running ones finish."""
    max_trials: Count | None = None
    """Start at most this many trials."""
    max_trial_hours: Positive | None = None
    """A trial that takes longer ends as failed."""


class Wandb(Strict):
    """Weights & Biases. The key comes from the environment (WANDB_API_KEY), never from a file."""

    project: Annotated[str, Field(min_length=1)]
    entity: str | None = None
    """User or team; the key's own when empty."""
    mode: Literal["offline", "online"] = "offline"
    """Offline writes to the run folder, for `wandb sync` later."""


class Tracking(Strict):
    """Trackers that follow the run folder's records. Never part of a trial's identity."""

    wandb: Wandb | None = None
    tensorboard: bool = False


class Search(Strict):
    """Run not every cell of the one swept stage but those that a sampler asks for."""

    method: Literal["optuna"]
    sampler: Literal["gp", "tpe", "random"] = "gp"
    """Gaussian process, tree-structured Parzen estimator, or chance as the baseline."""
    trials: Count
    """Cells in all, earlier starts included; each runs with all its seeds."""
    objective: Annotated[str, Field(min_length=1)] = HELDOUT
    """Benchmark whose primary metric, a mean over seeds, is to be best."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    at_once: Count | None = None
    """Cells that run at once; as many as there is room for when empty."""


class Pricing(Strict):
    """What is known of speed, for the hours of a plan; `--calibrate` measures it instead."""

    tokens_per_example: Positive | None = None
    """Mean tokens of a training example, padding left out."""
    tokens_per_second: Positive | None = None
    """Training tokens per second of one trial."""
    utilisation: Share | None = None
    """Share of `device_flops` that training reaches, where `tokens_per_second` is not given."""
    device_flops: Positive | None = None
    """Peak FLOP/s of what one trial has."""


class Arm(Strict):
    """The stage's grid once more under other settings, as a control."""

    name: Name
    set: dict[str, Any]


class Stage(Strict):
    """One stage, its cells already validated: `cells` holds (arm's name, spec) in the file's
    order."""

    name: str
    start_from: str
    axes: dict[str, tuple[Scalar, ...]]
    cells: tuple[tuple[str, SftSpec], ...]

    @property
    def searched_axes(self) -> dict[str, tuple[Scalar, ...]]:
        """What a search chooses from: seeds are repeats of a cell, not cells."""
        return {k: values for k, values in self.axes.items() if k != "seed" and len(values) > 1}


class _Named(Strict):
    name: Name


class Grid(_Named):
    model: Model
    stages: dict[str, Stage]
    evaluate: EvaluateSpec
    resources: Resources = Resources()
    limits: Limits = Limits()
    price: Pricing = Pricing()
    tracking: Tracking = Tracking()
    search: Search | None = None
    declared: dict[str, Any]
    """The file's data with the overrides applied; loading it again gives the same grid."""


GRID_KEYS = (
    "name",
    "model",
    "stages",
    "evaluate",
    "resources",
    "limits",
    "price",
    "tracking",
    "search",
)
STAGE_KEYS = ("start_from", "grid", "arms")


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
        target = target.setdefault(part, {})
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
        parts: dict[str, Any] = {
            "model": self.validated(Model, data.get("model"), ("model",)),
            "evaluate": self.validated(EvaluateSpec, data.get("evaluate"), ("evaluate",)),
            "resources": self.validated(Resources, data.get("resources", {}), ("resources",)),
            "limits": self.validated(Limits, data.get("limits", {}), ("limits",)),
            "price": self.validated(Pricing, data.get("price", {}), ("price",)),
            "tracking": self.validated(Tracking, data.get("tracking", {}), ("tracking",)),
            "search": self.validated(Search, data.get("search"), ("search",)),
            "stages": self.stages(data.get("stages")),
        }
        name = self.validated(_Named, {"name": data["name"]}, ()) if "name" in data else None
        self.names(data)
        self.search(parts["search"], parts["evaluate"], parts["stages"])
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
                self.named(("stages", stage, "data"), settings.get("data"), sources.problem)
        evaluate = data.get("evaluate")
        if not isinstance(evaluate, dict):
            return
        names = evaluate.get("benchmarks")
        names = names if isinstance(names, list) else []
        for index, name in enumerate(names):
            path = ("evaluate", "benchmarks", index)
            self.named(path, name, benchmarks.problem)
            if name in names[:index]:
                self.problem(path, f"{name!r} stands twice")
        folder = evaluate.get("data_dir")
        if isinstance(folder, str) and not Path(folder).is_dir():
            self.problem(("evaluate", "data_dir"), f"no folder {folder!r} (from {Path.cwd()})")

    def search(
        self, search: Search | None, evaluate: EvaluateSpec | None, stages: dict[str, Stage]
    ) -> None:
        """A search needs one stage to choose cells of, and a score to choose them by."""
        if search is None or evaluate is None or self.problems:
            return
        allowed = [HELDOUT, *evaluate.benchmarks]
        if search.objective not in allowed:
            message = f"{search.objective!r}: use one of {', '.join(allowed)}"
            self.problem(("search", "objective"), message)
        swept = [stage for stage in stages.values() if stage.searched_axes]
        if len(swept) != 1:
            found = ", ".join(stage.name for stage in swept) or "none"
            self.problem(("search",), f"needs exactly one stage with a grid; there is {found}")
            return
        if len({arm for arm, _ in swept[0].cells}) > 1:
            path = ("stages", swept[0].name, "arms")
            self.problem(path, "arms compare whole grids; `search` runs a part: give one of them")
        if search.objective == HELDOUT and any(spec.heldout == 0 for _, spec in swept[0].cells):
            path = ("stages", swept[0].name, "heldout")
            self.problem(path, f"0, and `search` needs the {HELDOUT}")

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
        self.graph(data)
        return stages

    def graph(self, data: dict[str, Any]) -> None:
        """Every start is `base` or another stage, and following the starts ends at `base`."""
        starts = {
            name: settings.get("start_from", BASE)
            for name, settings in data.items()
            if isinstance(settings, dict)
        }
        for name, start in starts.items():
            if start != BASE and start not in starts:
                others = ", ".join([BASE, *(other for other in starts if other != name)])
                self.problem(("stages", name, "start_from"), f"{start!r}: use one of {others}")
                return
        for name in starts:
            seen, at = [name], starts[name]
            while at != BASE and at not in seen:
                seen.append(at)
                at = starts[at]
            if at != BASE:
                self.problem(("stages", name, "start_from"), f"a circle: {' -> '.join(seen)}")

    def stage(self, name: str, settings: Any) -> Stage | None:
        path = ("stages", name)
        if not isinstance(settings, dict):
            self.problem(path, "is not a mapping of settings")
            return None
        if name == BASE:
            self.problem(path, "`base` means the grid's model; give the stage another name")
        kind = settings.get("kind")
        if kind not in KINDS:
            what = "is missing" if kind is None else f"{kind!r} is not a stage"
            self.problem((*path, "kind"), f"{what}; use one of {', '.join(KINDS)}")
            return None
        spec = KINDS[kind]
        axes = self.axes(settings.get("grid", {}), (*path, "grid"), spec)
        arms = self.arms(settings.get("arms", []), (*path, "arms"), spec)
        plain = {key: value for key, value in settings.items() if key not in STAGE_KEYS}
        for key in plain.keys() & axes.keys():
            self.problem((*path, key), "is an axis of `grid` too; give it in one place")
        cells = self.cells(name, spec, plain, axes, arms)
        if cells is None:
            return None
        start = settings.get("start_from", BASE)
        return Stage(name=name, start_from=str(start), axes=axes, cells=tuple(cells))

    def cells(self, name, spec, plain, axes, arms) -> list[tuple[str, SftSpec]] | None:
        """Every cell as its own validated spec, arm after arm, the last axis fastest."""
        before = len(self.problems)
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
            scalars = {*spec.model_fields, RATIO} - {"kind", "data"}
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
                if key not in spec.model_fields or key == "kind":
                    self.unknown((*path, index, "set", key), set(spec.model_fields) - {"kind"})
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
    if key in arm.set:
        return (*path, "arms", arm_index, "set", *loc)
    if key in axes:
        return (*path, "grid", key, axes[key].index(cell[key]))
    if key in cell:
        return (*path, "grid", RATIO)
    return (*path, *loc)


def _fields_at(model: type[Strict], loc: tuple) -> list[str]:
    for part in loc:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        choices = [kind for kind in (inner, *get_args(inner)) if isinstance(kind, type)]
        strict = [kind for kind in choices if issubclass(kind, Strict)]
        if not strict:
            break
        model = strict[0]
    extra = STAGE_KEYS if issubclass(model, SftSpec) else ()
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
