"""An axis of a grid: a list, or a range that is written shorter -> its values."""

import math
import sys
from collections.abc import Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo

from trainers.specs.adapter import Adapter
from trainers.specs.fields import Strict

Scalar = bool | int | float | str

MAX_VALUES = 1000

MAX = sys.float_info.max
"""A whole number may be larger, and no number of the computation can."""

RATIO = "ratio"
"""An axis of LR/BS, in place of learning_rate or batch_size."""

NESTED = "."
"""Stands between a key and one of the keys in it: `adapter.rank`."""


def keys(spec: type[Strict]) -> dict[str, FieldInfo]:
    """The fields of a spec; a mapping's own ones, dotted, in its place."""
    found: dict[str, FieldInfo] = {}
    for name, field in spec.model_fields.items():
        inner = next((one for one in get_args(field.annotation) if one is Adapter), None)
        parts = {name: field} if inner is None else {
            f"{name}{NESTED}{part}": its for part, its in inner.model_fields.items()
        }  # fmt: skip
        found |= parts
    return found


def nested(settings: dict[str, Any], *given: dict[str, Any]) -> dict[str, Any]:
    """The settings with what is given in their place, dotted keys within the mapping they name."""
    settings = dict(settings)
    for key, value in (item for one in given for item in one.items()):
        outer, _, inner = key.partition(NESTED)
        before = settings.get(outer)
        if not inner:
            settings[outer] = value
        elif before is None or isinstance(before, dict):  # else it is told that it is no mapping
            settings[outer] = {**(before or {}), inner: value}
    return settings


def expand(values: Any) -> Iterator[Scalar]:
    """The values of an axis: a list, `{log: [low, high], count: n}`, or `{log2: [low, high]}`.

    Values of a range are rounded to four significant digits, or to whole numbers where both ends
    are whole, so that they read well and their hash does not hang on rounding.

    Raises:
        ValueError: neither form, empty, not rising, or a value twice.
    """
    match values:
        case list():
            expanded = values
        case {"log": [low, high], "count": count, **rest} if not rest:
            _check_range(low, high)
            if not isinstance(count, int) or isinstance(count, bool):
                raise ValueError(f"count: {count!r} is not a whole number")
            if not 2 <= count <= MAX_VALUES:
                raise ValueError(f"count: {count} is not between 2 and {MAX_VALUES}")
            step = (math.log(high) - math.log(low)) / (count - 1)
            expanded = [_rounded(low * math.exp(i * step), low, high) for i in range(count)]
        case {"log2": [low, high], **rest} if not rest:
            _check_range(low, high)
            octaves = math.floor(math.log2(high) - math.log2(low) + 1e-9)
            if octaves < 1:
                raise ValueError(f"[{low!r}, {high!r}] is narrower than a factor of two")
            expanded = [_rounded(low * 2**i, low, high) for i in range(octaves + 1)]
        case _:
            raise ValueError(f"{values!r}: {_meant(values)}")
    if not expanded:
        raise ValueError("has no values")
    if len(expanded) > MAX_VALUES:
        raise ValueError(f"has {len(expanded):,} values; at most {MAX_VALUES} are allowed")
    for index, value in enumerate(expanded):
        if isinstance(value, dict | list) or value is None:
            raise ValueError(f"{value!r}: values are numbers or words")
        if repr(value) in map(repr, expanded[:index]):
            raise ValueError(f"{value!r} stands twice")
    yield from expanded


FORMS = "use a list, {log: [low, high], count: n}, or {log2: [low, high]}"


LISTS = ("values", "choice", "grid_search")
LOG_RANGES = ("loguniform", "qloguniform", "lograndint", "log_uniform")
RANDOM = ("uniform", "quniform", "randint", "range")
"""How W&B, Ray and Optuna write the values of a key."""


def _meant(values: Any) -> str:
    """What an axis in the form of another library, or one value, is in ours."""
    if not isinstance(values, dict):
        return f"{FORMS}; one value is the list [{values!r}], or stands beside `grid`"
    for key, given in values.items():
        if key in LISTS and isinstance(given, list):
            return f"did you mean {given!r}?"
        ends = f"[{given[0]!r}, {given[1]!r}]" if isinstance(given, list) and given[1:] else ""
        if key in LOG_RANGES and ends:
            return f"did you mean {{log: {ends}, count: n}}?"
        if key in RANDOM and ends:
            return f"a grid has no random values; name them in a list, as {ends}"
    if "min" in values and "max" in values:
        ends = f"[{values['min']!r}, {values['max']!r}]"
        return f"did you mean {{log2: {ends}}}, or {{log: {ends}, count: n}}?"
    return FORMS


def _check_range(low: Any, high: Any) -> None:
    for end in (low, high):
        if isinstance(end, bool) or not isinstance(end, int | float) or not 0 < end <= MAX:
            raise ValueError(f"{end!r} is not a positive number")
    if not low < high:
        raise ValueError(f"[{low!r}, {high!r}] does not rise")
    if high / low > MAX:
        raise ValueError(f"[{low!r}, {high!r}] is wider than numbers reach")


def _rounded(value: float, low: Scalar, high: Scalar) -> int | float:
    if isinstance(low, int) and isinstance(high, int):
        return round(value)
    return float(f"{value:.4g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= MAX


def ratio_cell(cell: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """What a cell's `ratio` stands for: the learning rate or batch size that makes LR/BS so.

    Raises:
        ValueError: the other of the two is not given, both are, or no whole batch has this ratio.
    """
    if RATIO not in cell:
        return {}
    ratio, given = cell[RATIO], {**plain, **cell}
    if isinstance(ratio, bool | str) or not 0 < ratio <= MAX:
        raise ValueError(f"{ratio!r} is not a positive number")
    others = [key for key in ("learning_rate", "batch_size") if key in given]
    if len(others) == 1 and not _is_number(given[others[0]]):
        raise ValueError(f"{others[0]} {given[others[0]]!r} is not a number")
    match others:
        case ["batch_size"]:
            return {"learning_rate": float(f"{ratio * given['batch_size']:.6g}")}
        case ["learning_rate"]:
            batch_size = given["learning_rate"] / ratio
            if not 0.5 <= batch_size < MAX or not math.isclose(
                batch_size, round(batch_size), rel_tol=0.01
            ):
                raise ValueError(
                    f"learning rate {given['learning_rate']:g} has ratio {ratio:g} at batch "
                    f"size {batch_size:.3g}, which is not a whole number; give batch_size instead"
                )
            return {"batch_size": round(batch_size)}
        case _:
            raise ValueError("a ratio goes with exactly one of learning_rate and batch_size")
