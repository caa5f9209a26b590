"""One thing under two names, as where a table has the runs of two projects."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from analysis.tables.external.names.columns import PER_DEVICE_SOMETIMES, filled, plain, spelled
from analysis.tables.numbers import numbers


class United(NamedTuple):
    """A table with `columns` taken into those that they go on from."""

    raw: pd.DataFrame
    columns: list[str]
    notes: list[str]


def united(raw: pd.DataFrame, mapping: Mapping[str, str], given: Mapping[str, str]) -> United:
    """A column of `mapping` with the cells of another that spells the same, where no row has both.
    A batch size that may be of one device stays apart from one that cannot."""
    taken: list[str] = []
    notes: list[str] = []
    for role, candidates in spelled(raw, given).items():
        for other in candidates:
            first = mapping.get(role, "")
            if first not in raw or other in [*mapping.values(), *taken]:
                continue
            here, there = filled(raw[first]), filled(raw[other])
            if (here & there).any() or (role == "batch_size" and _unlike(raw, mapping, other)):
                continue
            cells = raw[first].astype("object").where(here, raw[other].astype("object"))
            raw = raw.assign(**{first: cells})
            taken.append(other)
            notes.append(f"{role}: from {other} in {int(there.sum())} rows without {first}")
    return United(raw, taken, notes)


def _unlike(raw: pd.DataFrame, mapping: Mapping[str, str], other: str) -> bool:
    """Whether one of two batch sizes is effective by its name, and one is perhaps not."""
    names = (mapping["batch_size"], other)
    open_ = [name for name in names if plain(name).rpartition("/")[2] in PER_DEVICE_SOMETIMES]
    steps = mapping.get("accumulation")
    if len(open_) != 1 or steps not in raw:
        return False
    return bool((numbers(raw[steps]).values > 1)[filled(raw[open_[0]])].any())


def elsewhere(raw: pd.DataFrame, role: str, row: Any) -> list[str]:
    """The columns that may hold at `row` what the column of `role` does not."""
    candidates = spelled(raw, {})
    names = candidates[role]
    if role == "batch_size":
        names = [*names, *candidates["per_device_batch_size"]]
    return [name for name in names if filled(raw[name])[row]]
