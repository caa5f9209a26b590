"""Which axes the arms of a stage span: the settings in which they differ."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.tables.schema import settings_of
from analysis.tables.settings import ARM, label


class Place(NamedTuple):
    """Where an arm stands: the arms that an axis has, with their values in order."""

    name: str
    held: str
    arms: tuple[str, ...]
    values: tuple[str, ...]
    numbers: tuple[float, ...] | None

    def of(self, rows: Sequence[int]) -> "Place":
        """That of some of the arms alone."""
        return self._replace(
            arms=tuple(self.arms[row] for row in rows),
            values=tuple(self.values[row] for row in rows),
            numbers=None if self.numbers is None else tuple(self.numbers[row] for row in rows),
        )


def places(rows: pd.DataFrame, arms: Sequence[str]) -> list[Place]:
    """The axes that the arms of one stage span; `rows` are the stage's.

    Settings that hang on the name of the arm are the arm's; without any setting the arms themselves
    are the values.
    """
    first = rows.drop_duplicates("arm").set_index("arm")
    first = first.loc[[arm for arm in arms if arm in first.index]]
    if len(first) < 2:
        return []
    names = [name for name in (*settings_of(rows), "optimizer", "adapter") if name in first]
    texts: Any = pd.DataFrame({name: [_text(value) for value in first[name]] for name in names})
    texts.index = first.index
    own = [
        name
        for name in names
        if name != ARM
        and texts[name].nunique() > 1
        and (ARM not in texts or texts.groupby(ARM)[name].nunique().max() > 1)
    ]
    own += [ARM] if ARM in texts and texts[ARM].nunique() > 1 else []
    own = [name for name in own if not _follows(texts, name, own)]
    if not own:
        name = "model" if list(first.get("model", [])) == list(first.index) else "arm"
        return [Place(name, "", tuple(first.index), tuple(first.index), None)]
    axes = []
    for name in own:
        others = [other for other in own if other != name]
        groups = texts.groupby(others, sort=False) if others else [((), texts)]
        for held, members in groups:
            if members[name].nunique() == len(members) > 1:
                numbers = _numbers(first.loc[members.index, name])
                order = np.arange(len(members)) if numbers is None else np.argsort(numbers)
                there = [f"{label(o)} {v}" for o, v in zip(others, held, strict=True)]
                axes.append(
                    Place(
                        label(name),
                        ", ".join(there),
                        tuple(members.index[order]),
                        tuple(members[name].iloc[order]),
                        None if numbers is None else tuple(numbers[order]),
                    )
                )
    return axes


def named(name: str, value: str) -> str:
    """A value in a sentence: adapter.rank 16; lora."""
    return value if name in ("arm", "model") else f"{name} {value}"


def _follows(texts: pd.DataFrame, name: str, names: list[str]) -> bool:
    """Whether an earlier setting says this one too, as `adapter` is said by `adapter.rank`."""
    for earlier in names[: names.index(name)]:
        pairs = texts[[earlier, name]].drop_duplicates()
        if len(pairs) == texts[earlier].nunique():
            return True
    return False


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "none" if np.isnan(value) else f"{value:g}"
    return str(value) or "none"


def _numbers(column: pd.Series) -> np.ndarray | None:
    parsed: Any = pd.to_numeric(column, errors="coerce")
    numbers = parsed.to_numpy(dtype=float)
    return numbers if np.isfinite(numbers).all() and (numbers >= 0).all() else None
