"""The settings of trials beyond learning rate, batch size and seed: which of them differ in a
stage, as columns of the table and in the names of arms."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis.tables.schema import COLUMNS

AXES = ("learning_rate", "batch_size", "seed")

DEFAULTS = {"optimizer": "adamw", "adapter": ""}
"""Of settings that records leave out where they have these values."""

ADAPTER = {"base_weights": "float32"}
"""As `DEFAULTS`, of an adapter."""

NO_AXES = (
    *AXES, "kind", "data", "data_seed", "tokens_per_micro_batch", "noise_scale_every",
    "save_every_minutes", "save_every_steps",
)  # fmt: skip
"""What decides no weights, or stands in columns of its own."""

SET = "set."
"""Begins the column of a setting whose name is that of something measured: `set.epochs`."""

ARM = f"{SET}arm"
"""The name that the grid file gives an arm."""

Trials = list[tuple[Path, dict[str, Any]]]


def column(name: str) -> str:
    """Of a setting; the optimizer and the adapter have one in every table."""
    return f"{SET}{name}" if name in COLUMNS and name not in DEFAULTS else name


def label(column: str) -> str:
    """The setting whose column it is."""
    return column.removeprefix(SET)


def flat(spec: dict[str, Any]) -> dict[str, Any]:
    """The settings, those of an adapter as `adapter.rank` and the like; `adapter` itself is `lora`,
    `dora`, the same with a q where its base is in 4 bits, or empty."""
    adapter = spec.get("adapter")
    settings = DEFAULTS | spec
    if not isinstance(adapter, dict):
        return settings | {"adapter": adapter if isinstance(adapter, str) else ""}
    adapter = ADAPTER | adapter
    kind = "dora" if adapter.get("dora") else "lora"
    kind = kind if adapter["base_weights"] == "float32" else f"q{kind}"
    return settings | {"adapter": kind} | {f"adapter.{name}": its for name, its in adapter.items()}


def with_settings(trials: Trials) -> Trials:
    """The trials with `settings`, a value for each column that differs in their stage, and with
    those in the name of the arm that tell its trials of one parent, learning rate, batch size and
    seed apart: another axis of the grid is no seed."""
    specs = [flat(trial.get("spec") or {}) for _, trial in trials]
    cells: dict[str, list[dict[str, Any]]] = {}
    stages: dict[str, list[dict[str, Any]]] = {}
    for (_, trial), spec in zip(trials, specs, strict=True):
        if trial.get("spec"):
            cell = [trial["stage"], trial.get("arm"), trial.get("parent"), *map(spec.get, AXES)]
            cells.setdefault(json.dumps(cell), []).append(spec)
            stages.setdefault(trial["stage"], []).append(spec | {"arm": trial.get("arm") or ""})
    in_cells: dict[tuple[str, str | None], dict[str, None]] = {}
    for cell, members in cells.items():
        stage, arm, *_ = json.loads(cell)
        in_cells.setdefault((stage, arm), {}).update(dict.fromkeys(_differing(members)))
    in_stages = {
        stage: [name for name in _differing(members) if name not in NO_AXES]
        for stage, members in stages.items()
    }
    return [
        (
            folder,
            trial
            | {
                "arm": _arm(
                    trial, spec, list(in_cells.get((trial["stage"], trial.get("arm")), {}))
                ),
                "settings": _values(trial, spec, in_stages.get(trial["stage"], [])),
            },
        )
        for (folder, trial), spec in zip(trials, specs, strict=True)
    ]


def _differing(specs: list[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for spec in specs for name in spec)
    return [
        name
        for name in names
        if len({json.dumps(spec.get(name), sort_keys=True) for spec in specs}) > 1
    ]


def _arm(trial: dict[str, Any], spec: dict[str, Any], names: list[str]) -> str:
    settings = [f"{name}={_text(spec.get(name))}" for name in names]
    return ", ".join([*([trial["arm"]] if trial.get("arm") else []), *settings])


def _text(value: Any) -> Any:
    return "+".join(map(str, value)) if isinstance(value, list) else value


def _values(trial: dict[str, Any], spec: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    values = spec | {"arm": trial.get("arm") or ""}
    return {
        column(name): _text(values.get(name))
        for name in names
        if not isinstance(values.get(name), dict)
    }
