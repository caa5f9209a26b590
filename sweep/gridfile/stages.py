"""The stages of a grid file: axes, arms and cells, each cell its own validated spec."""

import difflib
import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from sweep.gridfile import checks
from sweep.gridfile.axes import NESTED, RATIO, Scalar, expand, keys, nested, ratio_cell
from sweep.gridfile.errors import Problems
from sweep.gridfile.schema import (
    BASE,
    EACH,
    MAX_CELLS,
    NAME,
    REFERENCE,
    SAME_FOR_ALL,
    STAGE_KEYS,
    Arm,
    Best,
    Keep,
    Stage,
    TrialResources,
)
from sweep.gridfile.yaml import KeyPath
from trainers.specs.data import MANY, ONE
from trainers.specs.fields import Strict
from trainers.specs.kinds import KINDS, StageSpec
from trainers.specs.training import TrainingSpec

KEY = r"[0-9a-f]{4,12}"
"""The beginning of a trial's key."""


def read(data: dict[str, Any], problems: Problems) -> dict[str, Stage]:
    """The stages of a file's `data` that are right; what is wrong with the others is added to
    `problems`."""
    stages = data.get("stages")
    if stages is None:
        return {}
    if not isinstance(stages, dict) or not stages:
        problems.add(("stages",), "is not a mapping from a stage's name to its settings")
        return {}
    reader = _Reader(data, problems)
    built = {name: reader.stage(name, settings) for name, settings in stages.items()}
    for path, message in checks.starts(stages):
        problems.add(path, message)
    return {name: stage for name, stage in built.items() if stage is not None}


class _Reader:
    def __init__(self, data: dict[str, Any], problems: Problems):
        self.data = data
        self.problems = problems

    def parent(self, value: Any, path: KeyPath) -> Best | str | None:
        """`each`, `best`, {best: a benchmark}, or the beginning of a key."""
        if value == "best":
            return Best()
        if isinstance(value, dict):
            return self.problems.validated(Best, value, path)
        if value == EACH or (isinstance(value, str) and re.fullmatch(KEY, value)):
            return value
        self.problems.add(
            path, f"{value!r}: use each, best, {{best: a benchmark}}, or a model's key in quotes"
        )
        return None

    def stage(self, name: str, settings: Any) -> Stage | None:
        path = ("stages", name)
        if not isinstance(settings, dict):
            self.problems.add(path, "is not a mapping of settings")
            return None
        if name in (BASE, REFERENCE):
            self.problems.add(
                path, f"`{name}` means models that are not trained; give the stage another name"
            )
        if not re.fullmatch(NAME, name):
            self.problems.add(
                path, "a stage's name has letters, digits and . _ - alone, at most 64"
            )
        kind = settings.get("kind")
        if kind is None and settings.keys() <= set(STAGE_KEYS):
            self.absent(name, settings)
            return None
        if not isinstance(kind, str) or kind not in KINDS:
            what = "is missing" if kind is None else f"{kind!r} is not a stage"
            self.problems.add((*path, "kind"), f"{what}; use one of {', '.join(KINDS)}")
            return None
        spec = KINDS[kind]
        axes = self.axes(settings.get("grid", {}), (*path, "grid"), spec)
        arms = self.arms(settings.get("arms", []), (*path, "arms"), spec)
        plain = {
            key: value
            for key, value in settings.items()
            if key not in STAGE_KEYS and not key.startswith("x-")
        }
        for key in axes:
            outer, _, inner = key.partition(NESTED)
            both = inner in plain[outer] if inner and isinstance(plain.get(outer), dict) else False
            if both or key in plain:
                at = (*path, outer, inner) if inner else (*path, key)
                self.problems.add(at, "is an axis of `grid` too; give it in one place")
        keep = settings.get("keep", "all")
        if keep not in get_args(Keep):
            self.problems.add((*path, "keep"), f"{keep!r}: use one of {', '.join(get_args(Keep))}")
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
            self.problems.add(path, f"{own!r} is not a mapping")
            return None
        grids = self.data.get("resources")
        shared = {
            key: value
            for key, value in (grids if isinstance(grids, dict) else {}).items()
            if key in TrialResources.model_fields
        }
        return self.problems.validated(TrialResources, shared | own, path)

    def absent(self, name: str, settings: dict[str, Any]) -> None:
        """Axes and the like for a stage that is not there."""
        others = [other for other in self.data["stages"] if other != name]
        near = difflib.get_close_matches(name, others, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"the stages are {', '.join(others)}"
        what = ", ".join(settings) or "nothing"
        self.problems.add(("stages", name), f"has {what} but no `kind`, so it is no stage; {hint}")

    def cells(self, name, spec, plain, axes, arms) -> list[tuple[str, StageSpec]] | None:
        """Every cell as its own validated spec, arm after arm, the last axis fastest."""
        before = len(self.problems.lines)
        count = len(arms) * math.prod(len(values) or 1 for values in axes.values())
        if count > MAX_CELLS:
            path = ("stages", name, "grid")
            self.problems.add(path, f"{count:,} cells; at most {MAX_CELLS:,} are planned at once")
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
                    self.problems.add(("stages", name, "grid", RATIO), str(error))
                    continue
                try:
                    cell.pop(RATIO, None)
                    cells.append((arm.name, spec.model_validate(nested(plain, cell, arm.set))))
                except ValidationError as error:
                    for detail in error.errors():
                        if detail["type"] == "missing" and detail["loc"][0] in broken:
                            continue
                        path = _place_in_stage(name, detail["loc"], cell, axes, arm, arm_index)
                        self.problems.detail(detail, path, spec)
        return cells if len(self.problems.lines) == before and not broken else None

    def axes(self, data: Any, path: KeyPath, spec: type[Strict]) -> dict[str, tuple]:
        if not isinstance(data, dict):
            self.problems.add(path, "is not a mapping from a key to its values")
            return {}
        axes = {}
        for key, values in data.items():
            scalars = {*keys(spec), RATIO} - {"kind", *SAME_FOR_ALL}
            if key not in scalars:
                self.problems.unknown((*path, key), scalars)
                continue
            try:
                axes[key] = _whole(key, tuple(expand(values)), spec)
            except ValueError as error:
                more = "; three seeds are [0, 1, 2]" if key == "seed" else ""
                self.problems.add((*path, key), f"{error}{more}")
                axes[key] = ()
        return axes

    def arms(self, data: Any, path: KeyPath, spec: type[Strict]) -> list[tuple[int, Arm]]:
        """The arms with their place in the file; one without a name or settings where there are
        none."""
        if not isinstance(data, list):
            self.problems.add(path, "is not a list of {name: ..., set: {...}}")
            return []
        arms = [
            (index, self.problems.validated(Arm, arm, (*path, index)))
            for index, arm in enumerate(data)
        ]
        for index, arm in arms:
            for key in arm.set if arm else {}:
                allowed = {*spec.model_fields, *keys(spec)} - {"kind", "data_seed"}
                if key not in allowed:
                    self.problems.unknown((*path, index, "set", key), allowed)
        names = [arm.name for _, arm in arms if arm]
        if len(set(names)) < len(names):
            self.problems.add(path, "two arms have one name")
        named = [(index, arm) for index, arm in arms if arm]
        return named or [(0, Arm.model_construct(name="", set={}))]

    def judges(self, path: KeyPath, cells: Sequence[tuple[str, TrainingSpec]]) -> None:
        """Reward models that stages are to be rewarded by have to be there."""
        for name in dict.fromkeys(getattr(spec, "reward_model", None) for _, spec in cells):
            if name is not None and not (Path(name) / "config.json").is_file():
                self.problems.add(
                    (*path, "reward_model"),
                    f"no model in the folder {name!r} (from {Path.cwd()}); give the `model` folder "
                    "of a trial of a reward stage",
                )


def _whole(key: str, values: tuple[Scalar, ...], spec: type[Strict]) -> tuple[Scalar, ...]:
    """Values of an axis; 8.0 is the 8 that a whole number's key takes."""
    field = keys(spec).get(key)
    if field is None or int not in (field.annotation, *get_args(field.annotation)):
        return values
    return tuple(int(v) if isinstance(v, float) and v.is_integer() else v for v in values)


def _place_in_stage(name, loc, cell, axes, arm: Arm, arm_index: int) -> KeyPath:
    """Where in the file the value of a stage's field was given: in an arm, on an axis, or
    plainly."""
    path: KeyPath = ("stages", name)
    if not loc:
        return path
    dotted = NESTED.join(map(str, loc[:2]))
    if dotted in arm.set and loc[0] not in arm.set:
        return (*path, "arms", arm_index, "set", dotted)
    if dotted in axes and loc[0] not in arm.set:
        return (*path, "grid", dotted, axes[dotted].index(cell[dotted]))
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
