"""An axis of a grid: a list, or a range that is written shorter -> its values."""

import math
from collections.abc import Iterator
from typing import Any

Scalar = bool | int | float | str


def expand(values: Any) -> Iterator[Scalar]:
    """The values of an axis: a list, `{log: [low, high], count: n}`, or `{log2: [low, high]}`.

    Values of a range are rounded to four significant digits, or to whole numbers where both ends
    are whole, so that they read well and their hash does not hang on rounding.

    Raises:
        ValueError: neither form, empty, not rising, or a value twice.
    """
    match values:
        case list():
            found = values
        case {"log": [low, high], "count": count, **rest} if not rest:
            _check_range(low, high)
            if not isinstance(count, int) or isinstance(count, bool) or count < 2:
                raise ValueError(f"count: {count!r} is not a whole number of at least 2")
            step = math.log(high / low) / (count - 1)
            found = [_rounded(low * math.exp(i * step), low, high) for i in range(count)]
        case {"log2": [low, high], **rest} if not rest:
            _check_range(low, high)
            octaves = math.floor(math.log2(high / low) + 1e-9)
            found = [_rounded(low * 2**i, low, high) for i in range(octaves + 1)]
        case _:
            raise ValueError(
                f"{values!r}: use a list, {{log: [low, high], count: n}}, or {{log2: [low, high]}}"
            )
    if not found:
        raise ValueError("has no values")
    if any(isinstance(value, dict | list) or value is None for value in found):
        raise ValueError(f"{found!r}: values are numbers or words")
    if len(set(map(repr, found))) < len(found):
        raise ValueError(f"{found!r}: a value stands twice")
    yield from found


def _check_range(low: Any, high: Any) -> None:
    for end in (low, high):
        if isinstance(end, bool) or not isinstance(end, int | float) or not 0 < end < math.inf:
            raise ValueError(f"{end!r} is not a positive number")
    if not low < high:
        raise ValueError(f"[{low!r}, {high!r}] does not rise")


def _rounded(value: float, low: Scalar, high: Scalar) -> int | float:
    if isinstance(low, int) and isinstance(high, int):
        return round(value)
    return float(f"{value:.4g}")
