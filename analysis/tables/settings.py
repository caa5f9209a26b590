"""The settings of trials beyond learning rate, batch size and seed: which of them differ in a
stage, as columns of the table and in the names of arms."""

import json
from pathlib import Path
from typing import Any

from analysis.tables.schema import COLUMNS
from analysis.text import rate

AXES = ("learning_rate", "batch_size", "seed")

DEFAULTS = {"optimizer": "adamw", "adapter": ""}
"""Of settings that records leave out where they have these values."""

ADAPTER = {"base_weights": "float32"}
"""As `DEFAULTS`, of an adapter."""

NO_WEIGHTS = (
    "tokens_per_micro_batch", "noise_scale_every", "save_every_minutes", "save_every_steps",
)  # fmt: skip
"""What decides no weights."""

NO_AXES = (*AXES, "kind", "data", "data_seed", *NO_WEIGHTS)
"""What has no column among the settings: that decides no weights, or has one of its own."""

PARENT = "parent"
"""In names of arms, the setting of the model that a trial starts from."""

SET = "set."
"""Begins the column of a setting whose name is that of something measured: `set.epochs`."""

ARM = f"{SET}arm"
"""The name that the grid file gives an arm."""

Trials = list[tuple[Path, dict[str, Any]]]
Arm = tuple[str, str]
"""A stage, and the name that the grid file gives an arm of it."""


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
    what tells the trials of a stage and an arm apart in the name of the arm: every setting beside
    learning rate, batch size and seed, and the setting of the model that they start from. Another
    axis of the grid is no seed, nor is what a grid file said before it was edited."""
    trained = [trial for _, trial in trials if trial.get("spec")]
    specs = {trial["key"]: flat(trial["spec"]) for trial in trained}
    stages: dict[str, list[dict[str, Any]]] = {}
    arms: dict[Arm, list[dict[str, Any]]] = {}
    for trial in trained:
        stages.setdefault(trial["stage"], []).append(trial)
        arms.setdefault(_of(trial), []).append(trial)
    names = {arm: _names(members, specs) for arm, members in arms.items()}
    steps = {
        trial["key"]: _step(trial, specs.get(trial["key"]), names.get(_of(trial), []))
        for _, trial in trials
    }
    parents = {trial["key"]: trial.get("parent") or "" for _, trial in trials}
    starts: dict[str, str] = {}
    in_stages: dict[str, list[str]] = {}
    for stage, members in stages.items():
        starts |= _starts([trial["key"] for trial in members], parents, steps)
        values = [_values_of(trial, specs, starts) for trial in members]
        in_stages[stage] = [name for name in _differing(values) if name not in NO_AXES]
    for arm, members in arms.items():
        if len({starts[trial["key"]] for trial in members}) > 1:
            names[arm].append(PARENT)
    return [
        (
            folder,
            trial
            | {
                "arm": _arm(trial, values, names.get(_of(trial), [])),
                "settings": {
                    column(name): _text(values.get(name))
                    for name in in_stages.get(trial["stage"], [])
                    if not isinstance(values.get(name), dict)
                },
            },
        )
        for folder, trial in trials
        for values in [_values_of(trial, specs, starts)]
    ]


def _of(trial: dict[str, Any]) -> Arm:
    return trial["stage"], trial.get("arm") or ""


def _values_of(
    trial: dict[str, Any], specs: dict[str, dict[str, Any]], starts: dict[str, str]
) -> dict[str, Any]:
    own = {"arm": trial.get("arm") or "", PARENT: starts.get(trial["key"], "")}
    return specs.get(trial["key"], DEFAULTS) | own


def _names(trials: list[dict[str, Any]], specs: dict[str, dict[str, Any]]) -> list[str]:
    """The settings that tell trials of one arm apart: what differs where the parent and the axes do
    not, and what several have in different values. Older records lack newer settings."""
    cells: dict[str, list[dict[str, Any]]] = {}
    for trial in trials:
        spec = specs[trial["key"]]
        cell = json.dumps([trial.get("parent"), *map(spec.get, AXES)])
        cells.setdefault(cell, []).append(spec)
    names = dict.fromkeys(name for members in cells.values() for name in _differing(members))
    for name in _differing([specs[trial["key"]] for trial in trials], absent=False):
        if name not in (*AXES, *NO_WEIGHTS):
            names[name] = None
    return list(names)


def _step(trial: dict[str, Any], spec: dict[str, Any] | None, names: list[str]) -> str:
    """A trial as the start of others, without its seed: sft 3e-4 x 8; of a model as it is, its
    name."""
    if spec is None:
        return " ".join(filter(None, (trial.get("model"), trial.get("model_revision"))))
    cell = f"{_exact(spec['learning_rate'])} x {spec['batch_size']}"
    return " ".join(filter(None, (trial["stage"], _arm(trial, spec, names), cell)))


def _starts(keys: list[str], parents: dict[str, str], steps: dict[str, str]) -> dict[str, str]:
    """By key, what a trial starts from, and what that starts from as far as it tells them apart."""
    lines = {key: _line(key, parents, steps) for key in keys}
    different = len(set(lines.values()))
    depth = 1
    while len({line[:depth] for line in lines.values()}) < different:
        depth += 1
    return {key: " from ".join(line[:depth]) for key, line in lines.items()}


def _line(key: str, parents: dict[str, str], steps: dict[str, str]) -> tuple[str, ...]:
    seen: dict[str, str] = {}
    while (key := parents.get(key, "")) and key not in seen:
        seen[key] = steps.get(key, key)
    return tuple(seen.values())


def _differing(specs: list[dict[str, Any]], absent: bool = True) -> list[str]:
    """The settings with several values, of which being `absent` may be one."""
    names = dict.fromkeys(name for spec in specs for name in spec)
    return [
        name
        for name in names
        if len(
            {json.dumps(spec.get(name), sort_keys=True) for spec in specs if absent or name in spec}
        )
        > 1
    ]


def _arm(trial: dict[str, Any], values: dict[str, Any], names: list[str]) -> str:
    settings = [f"{name}={_text(values.get(name))}" for name in names]
    return ", ".join([*([trial["arm"]] if trial.get("arm") else []), *settings])


def _text(value: Any) -> Any:
    if isinstance(value, dict):
        return " ".join(str(_text(part)) for part in value.values() if part is not None)
    return "+".join(str(_text(part)) for part in value) if isinstance(value, list) else value


def _exact(value: float) -> str:
    return rate(value) if float(rate(value)) == value else str(value)
