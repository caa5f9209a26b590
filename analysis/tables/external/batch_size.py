"""Examples per optimizer step, from the columns that a table has."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.tables.external.names.columns import EFFECTIVE, PER_DEVICE_SOMETIMES, plain
from analysis.tables.numbers import numbers

GPUS = ("num_gpus", "n_gpu", "n_gpus", "ngpus", "gpus", "gpu_count", "num_devices")
"""Names that need not count the devices of all `NODES`; a world size does."""

NODES = ("nodes", "num_nodes", "n_nodes", "nnodes", "node_count")

NO_BATCH_SIZE = 1
"""Stands for the one batch size of a table that does not say which it is; its ratios are empty."""


def effective_batch_size(
    frame: pd.DataFrame, mapping: Mapping[str, str], given: Mapping[str, str], source: str
) -> tuple[pd.Series, list[str]]:
    """The batch size of each row with notes; `NO_BATCH_SIZE` everywhere where the table has none.

    Batch sizes per device are multiplied by the accumulation steps and the devices.

    Raises:
        ResultsError: a factor of it is missing, or a batch size may be either.
    """
    name = mapping.get("batch_size")
    per_device = mapping.get("per_device_batch_size")
    if name and "per_device_batch_size" not in given:
        _refuse_ambiguous(frame, mapping, given, source)
        sizes = _numbers(frame, "batch_size", name, source)
        return sizes, _suffix_notes(frame, name) + _devices_notes(frame, mapping)
    if not per_device:
        return pd.Series(float(NO_BATCH_SIZE), frame.index), [
            "no batch size in the table: its rows are taken to share one, so that learning rates "
            "are compared and there is no ratio; name its column with --columns "
            "batch_size=COLUMN, or its value with --columns batch_size=32"
        ]
    missing = [role for role in ("accumulation", "devices") if role not in mapping]
    if missing:
        raise ResultsError(
            f"{source}: {per_device} is not the effective batch size: that is its product with the "
            f"accumulation steps and the devices, and the table has no column of "
            f"{' and '.join(missing)}; name the column or the number: "
            f"--columns {','.join(f'{role}=1' for role in missing)}"
        )
    if "devices" not in given:
        _refuse_devices(frame, mapping["devices"], source)
    factors = {
        role: _numbers(frame, role, mapping[role], source)
        for role in ("per_device_batch_size", "accumulation", "devices")
    }
    product = factors["per_device_batch_size"] * factors["accumulation"] * factors["devices"]
    names = " x ".join(mapping[role] for role in factors)
    return product, [f"batch size: {names}"]


def _refuse_devices(frame: pd.DataFrame, name: str, source: str) -> None:
    """The HF Trainer's `_n_gpu` is 1 on one GPU, and under DDP on every number of them; GPUs beside
    several nodes may be those of one node.

    Raises:
        ResultsError: the column need not be the number of all devices.
    """
    devices, spelling = numbers(frame[name]).values, plain(name).rpartition("/")[2]
    nodes = {plain(column).rpartition("/")[2]: column for column in frame}
    node = next((nodes[word] for word in NODES if word in nodes), None)
    several = node is not None and (numbers(frame[node]).values > 1).any()
    if spelling == "_n_gpu" and (devices <= 1).any():
        why = "1 under DDP, too, however many GPUs there are"
    elif spelling in GPUS and several:
        why = f"those of one node, and {node} goes up to {numbers(frame[node]).values.max():g}"
    else:
        return
    raise ResultsError(
        f"{source}: is {name} the number of all devices? It may be {why}. Say --columns "
        f"devices={name} if it is, --columns devices=8 if there are 8, or write the effective "
        "batch size into a column batch_size"
    )


def _refuse_ambiguous(
    frame: pd.DataFrame, mapping: Mapping[str, str], given: Mapping[str, str], source: str
) -> None:
    """A plain batch size beside accumulation steps is per device or effective, nobody knows which.

    Raises:
        ResultsError: it may be either; says how to settle it.
    """
    name = mapping["batch_size"]
    spelling = plain(name).rpartition("/")[2]
    if "batch_size" in given or spelling in EFFECTIVE or "accumulation" not in mapping:
        return
    steps = _numbers(frame, "accumulation", mapping["accumulation"], source)
    if spelling in PER_DEVICE_SOMETIMES and (steps > 1).any():
        raise ResultsError(
            f"{source}: is {name} the effective batch size, or that of one device and one "
            f"accumulation step? {mapping['accumulation']} goes up to {steps.max():g}. Say "
            f"--columns batch_size={name} for the effective one, or --columns "
            f"per_device_batch_size={name}{_devices(mapping)} to multiply"
        )


def _devices(mapping: Mapping[str, str]) -> str:
    return "" if "devices" in mapping else ",devices=1"


def _devices_notes(frame: pd.DataFrame, mapping: Mapping[str, str]) -> list[str]:
    column = mapping.get("devices")
    if column not in frame or not (numbers(frame[column]).values > 1).any():
        return []
    name = mapping["batch_size"]
    return [
        f"{name} is taken for the effective batch size and not multiplied by {column}; if it is "
        f"that of one device, say --columns per_device_batch_size={name},accumulation=1"
    ]


def _numbers(frame: pd.DataFrame, role: str, name: str, source: str) -> pd.Series:
    """A column, or a number that was given in its place.

    Raises:
        ResultsError: a cell is not a number; names the row.
    """
    if name not in frame:
        return pd.Series(float(name), frame.index)
    return axis(frame, role, name, source)


def axis(frame: pd.DataFrame, role: str, name: str, source: str) -> pd.Series:
    """The numbers of a column in which words are no failed cells but mistakes.

    Raises:
        ResultsError: a cell is not a number; names the row.
    """
    parsed = numbers(frame[name])
    wrong: Any = parsed.words[parsed.words != ""]
    if len(wrong):
        raise ResultsError(
            f"{source}: row {wrong.index[0] + 1}: column {name}: '{wrong.iloc[0]}' is not a number "
            f"({role.replace('_', ' ')}); correct it, or leave out the row with --where"
        )
    return parsed.values


def _suffix_notes(frame: pd.DataFrame, name: str) -> list[str]:
    if name not in frame:
        return []
    parsed = numbers(frame[name])
    cells = frame.loc[parsed.suffix, name]
    if cells.empty:
        return []
    first = parsed.values[cells.index[0]]
    return [f"{name}: '{cells.iloc[0]}' is read as {first:,.0f} (k is 1,000, m is 1,000,000)"]
