"""The axes and arms of a stage -> its cells, each its own validated spec."""

import itertools
import math
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError

from sweep.gridfile.errors import Problems
from sweep.gridfile.keys.axes import NESTED, RATIO, Scalar, expand, keys, nested, ratio_cell
from sweep.gridfile.keys.schema import MAX_CELLS, SAME_FOR_ALL, Arm, ArmAxes
from sweep.gridfile.yaml import KeyPath
from trainers.specs.data import MANY, ONE
from trainers.specs.fields import Strict
from trainers.specs.kinds import StageSpec

Axes = dict[str, tuple[Scalar, ...]]


class StageArm(NamedTuple):
    """One arm with its place among them: `shared` are the axes of the stage's grid that it goes
    over, `own` those of its own, which come first where both have a key."""

    place: int
    arm: Arm
    shared: Axes
    own: Axes

    @property
    def axes(self) -> Axes:
        return self.shared | self.own

    def described(self) -> ArmAxes:
        return ArmAxes(name=self.arm.name, axes=self.axes, own=tuple(self.own))


def given_in(key: str, settings: dict[str, Any]) -> bool:
    """Whether settings have a key, or a dotted one within the mapping that it names."""
    outer, _, inner = key.partition(NESTED)
    mapping = settings.get(outer)
    return key in settings or (bool(inner) and isinstance(mapping, dict) and inner in mapping)


def read_axes(data: Any, path: KeyPath, spec: type[Strict], problems: Problems) -> Axes:
    """The axes of a `grid`; one that is wrong has no values."""
    if not isinstance(data, dict):
        problems.add(path, "is not a mapping from a key to its values")
        return {}
    axes: Axes = {}
    for key, values in data.items():
        scalars = {*keys(spec), RATIO} - {"kind", *SAME_FOR_ALL}
        if key in SAME_FOR_ALL:
            problems.add(
                (*path, key), "is no axis: cells have one held-out slice; give it beside `grid`"
            )
            continue
        if key not in scalars:
            problems.unknown((*path, key), scalars)
            continue
        try:
            axes[key] = _whole(key, tuple(expand(values)), spec)
        except ValueError as error:
            more = "; three seeds are [0, 1, 2]" if key == "seed" else ""
            problems.add((*path, key), f"{error}{more}")
            axes[key] = ()
    return axes


def read_arms(
    data: Any, path: KeyPath, spec: type[Strict], shared: Axes, problems: Problems
) -> list[StageArm]:
    """The arms over the axes of the stage's grid, `shared`, and their own; one without a name or
    settings where there are none."""
    if not isinstance(data, list):
        problems.add(path, "is not a list of {name: ..., set: {...}, grid: {...}}")
        return []
    arms = []
    for index, given in enumerate(data):
        arm = problems.validated(Arm, given, (*path, index))
        if arm is None:
            continue
        allowed = {*spec.model_fields, *keys(spec)} - {"kind", "data_seed"}
        for key in arm.set.keys() - allowed:
            problems.unknown((*path, index, "set", key), allowed)
        own = read_axes(arm.grid, (*path, index, "grid"), spec, problems)
        for key in own:
            if given_in(key, arm.set) or arm.set.get(key.partition(NESTED)[0], "") is None:
                place = (*path, index, "grid", key)
                problems.add(place, "is in `set` of the arm too; give it in one place")
        arms.append(StageArm(index, arm, _left(shared, arm, own), own))
    names = [arm.arm.name for arm in arms]
    if len(set(names)) < len(names):
        problems.add(path, "two arms have one name")
    return arms or [StageArm(0, Arm.model_construct(name="", set={}, grid={}), shared, {})]


def _left(shared: Axes, arm: Arm, own: Axes) -> Axes:
    """The axes of the stage's grid for which the arm has neither a value nor values."""
    if RATIO in shared:  # stands for one of two keys, beside the other of them
        return {key: values for key, values in shared.items() if key not in own}
    said = {key for key in shared if key in arm.set or key.partition(NESTED)[0] in arm.set}
    return {key: values for key, values in shared.items() if key not in own and key not in said}


def cells(
    stage: str,
    spec: type[StageSpec],
    plain: dict[str, Any],
    arms: list[StageArm],
    problems: Problems,
) -> list[tuple[str, StageSpec]] | None:
    """Every cell of every arm, the last axis fastest; None where something is wrong with one."""
    before = len(problems.lines)
    count = sum(math.prod(len(values) or 1 for values in arm.axes.values()) for arm in arms)
    if count > MAX_CELLS:
        path = ("stages", stage, "grid")
        problems.add(path, f"{count:,} cells; at most {MAX_CELLS:,} are planned at once")
        return None
    every = [cell for arm in arms for cell in _cells(stage, spec, plain, arm, problems)]
    broken = any(not values for arm in arms for values in arm.axes.values())
    return every if len(problems.lines) == before and not broken else None


def _cells(
    stage: str, spec: type[StageSpec], plain: dict[str, Any], placed: StageArm, problems: Problems
) -> list[tuple[str, StageSpec]]:
    arm, broken = placed.arm, {key for key, values in placed.axes.items() if not values}
    axes = {key: values for key, values in placed.axes.items() if values}
    beside = nested(plain, arm.set) if RATIO in placed.own else plain
    built = []
    for values in itertools.product(*axes.values()):
        cell = dict(zip(axes, values, strict=True))
        shared = {key: value for key, value in cell.items() if key not in placed.own}
        own = {key: value for key, value in cell.items() if key in placed.own}
        try:
            (own if RATIO in own else shared).update(ratio_cell(cell, beside))
        except ValueError as error:
            path = ("arms", placed.place, "grid") if placed.own else ("grid", RATIO)
            problems.add(("stages", stage, *path), str(error))
            continue
        settings = nested(plain, _without_ratio(shared), arm.set, _without_ratio(own))
        try:
            built.append((arm.name, spec.model_validate(settings)))
        except ValidationError as error:
            for detail in error.errors():
                if detail["type"] == "missing" and detail["loc"][0] in broken:
                    continue
                path = _place(detail["loc"], cell, axes, placed, {*shared, *own})
                problems.detail(detail, ("stages", stage, *path), spec)
    return built


def _without_ratio(cell: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in cell.items() if key != RATIO}


def _whole(key: str, values: tuple[Scalar, ...], spec: type[Strict]) -> tuple[Scalar, ...]:
    """Values of an axis; 8.0 is the 8 that a whole number's key takes."""
    field = keys(spec).get(key)
    if field is None or int not in (field.annotation, *get_args(field.annotation)):
        return values
    return tuple(int(v) if isinstance(v, float) and v.is_integer() else v for v in values)


def _place(
    loc: tuple[str | int, ...],
    cell: dict[str, Any],
    axes: Axes,
    placed: StageArm,
    given: set[str],
) -> KeyPath:
    """Where in the stage the value of a field was given: in an arm, on an axis, or plainly;
    `given` are the cell's keys, those that a ratio stands for among them."""
    if not loc:
        return ()
    of_arm, settings = ("arms", placed.place), placed.arm.set
    key, dotted = str(loc[0]), NESTED.join(map(str, loc[:2]))
    for axis in (dotted, key):
        if axis in placed.own:
            return (*of_arm, "grid", axis, axes[axis].index(cell[axis]))
    if dotted in settings and key not in settings:
        return (*of_arm, "set", dotted)
    if key == "data":
        loc = tuple(part for part in loc if part not in (ONE, MANY))
    if key in settings:
        return (*of_arm, "set", *loc)
    for axis in (dotted, key):
        if axis in axes:
            return ("grid", axis, axes[axis].index(cell[axis]))
    if key in given:
        return (*of_arm, "grid", RATIO) if RATIO in placed.own else ("grid", RATIO)
    return loc
