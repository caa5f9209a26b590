"""Every key of a grid file as a page, from the docstrings of the models that check it.

    python -m sweep.gridfile.keys.reference

`make docs` puts it among the pages, so it is never behind the code.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from sweep.gridfile.keys import schema as grid
from sweep.gridfile.keys.choosers import Decide, Fidelity, Search
from sweep.gridfile.keys.resources import Resources
from sweep.gridfile.keys.trackers import Trackio, Wandb
from trainers.specs.adapter import Adapter
from trainers.specs.data import Columns, DataSpec, Model
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.kinds import KINDS
from trainers.specs.training import TrainingSpec

OPENING = """\
# Every key of the grid file

Made from the docstrings of the code that checks a grid file.
[The grid file](grid_file.md) explains how the keys go together.
A key without a default has to be given.
"""

SECTIONS: dict[str, tuple[str, type[BaseModel], tuple[str, ...]]] = {
    "The file": ("", grid.Grid, grid.GRID_KEYS),
    "`model`": ("A model by name, or these keys.", Model, ()),
    "`stages.<name>`": (
        "Beside the keys of training below, a stage has these.",
        grid.Stage,
        grid.STAGE_KEYS,
    ),
    "Training, every kind": (
        "Any scalar of these but `kind`, `data_seed` and `heldout` may be an axis of `grid:`.",
        TrainingSpec,
        (),
    ),
    "`data`": ("A data set by name, these keys, or a list of either.", DataSpec, ()),
    "`data.columns`": ("", Columns, ()),
    "`adapter`": ("LoRA in place of all weights, on every kind of stage.", Adapter, ()),
    "`evaluate`": ("", EvaluateSpec, ()),
    "`resources`": ("A stage may have its own.", Resources, ()),
    "`limits`": ("", grid.Limits, ()),
    "`price`": ("", grid.Pricing, ()),
    "`tracking`": ("", grid.Tracking, ()),
    "`tracking.wandb`": ("", Wandb, ()),
    "`tracking.trackio`": ("", Trackio, ()),
    "`notify`": ("URLs alone, or these keys.", grid.Notify, ()),
    "`search`": ("", Search, ()),
    "`decide`": ("", Decide, ()),
    "`decide.fidelity`": ("", Fidelity, ()),
    "`audit`": ("", grid.Audit, ()),
}


WRITTEN: dict[type[BaseModel], dict[str, str]] = {
    grid.Stage: {
        "grid": "Axes: a key of training -> its values, `{log: [low, high], count: n}` or "
        "`{log2: [low, high]}`. `ratio` may stand in for the learning rate or the batch size.",
        "arms": "The same grid again, as a control: each has a `name`, keys to `set`, and axes of "
        "its own in `grid`, beside those of the stage or in their place.",
    }
}
"""Keys that the code has in another form than the file."""


def page() -> str:
    """The page as Markdown."""
    parts = [OPENING]
    for heading, (note, model, keys) in SECTIONS.items():
        parts.append(_section(heading, note, model, keys or tuple(model.model_fields)))
        if model is TrainingSpec:
            for kind, spec in KINDS.items():
                own = [k for k in spec.model_fields if k not in TrainingSpec.model_fields]
                if own:
                    parts.append(_section(f"Training, `kind: {kind}`", "", spec, tuple(own)))
    return "\n".join(parts)


def _section(heading: str, note: str, model: type[BaseModel], keys: tuple[str, ...]) -> str:
    schema = model.model_json_schema()
    rows = [
        f"| `{key}` | {_allowed(schema['properties'].get(key, {}))} | {_default(model, key)} | "
        f"{_told(model, key)} |"
        for key in keys
        if key in model.model_fields and key not in WRITTEN.get(model, {})
    ]
    rows += [f"| `{key}` | its keys | | {told} |" for key, told in WRITTEN.get(model, {}).items()]
    table = ["| key | allowed | default | meaning |", "|---|---|---|---|", *rows]
    return "\n".join([f"## {heading}", "", *([note, ""] if note else []), *table, ""])


def _told(model: type[BaseModel], key: str) -> str:
    text = model.model_fields[key].description or ""
    return " ".join(text.split()).replace("|", "\\|")


def _default(model: type[BaseModel], key: str) -> str:
    field = model.model_fields[key]
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "its own defaults"
    empty = value is None or value in ("", (), [], {})
    return "none" if empty else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allowed(schema: dict[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_alternatives(schema))).replace("|", "\\|")


def _alternatives(schema: dict[str, Any]) -> Iterator[str]:
    for part in schema.get("anyOf", schema.get("oneOf", [schema])):
        if "enum" in part:
            yield ", ".join(f"`{value}`" for value in part["enum"])
        elif "const" in part:
            yield f"`{part['const']}`"
        elif "$ref" in part or "allOf" in part:
            yield "its keys"
        elif part.get("type") == "array":
            items = _allowed(part.get("items", {}))
            yield f"a list of {items}" if items else "a list"
        elif part.get("type") != "null":
            yield _scalar(part)


NAMES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true`, `false`",
    "object": "its keys",
}


MACHINE_SIZE = 2**31 - 1
"""Bounds from here on are those of a machine's numbers."""


def _scalar(part: dict[str, Any]) -> str:
    name = NAMES.get(part.get("type", ""), "any value")
    bounds = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to",
        "exclusiveMaximum": "below",
    }
    limits = [
        f"{word} {part[bound]:g}"
        for bound, word in bounds.items()
        if bound in part and abs(part[bound]) < MACHINE_SIZE
    ]
    return " ".join([name, *limits])


if __name__ == "__main__":
    print(page())
