"""JSON schema of a grid file, for editors; grids/grid.schema.json holds it.

python -m sweep.gridfile.load --schema > grids/grid.schema.json
"""

from typing import Any

from sweep.gridfile.keys import schema as grid
from sweep.gridfile.keys.axes import RATIO, keys
from trainers.specs.fields import Strict
from trainers.specs.kinds import KINDS

AXIS = {
    "anyOf": [
        {"type": "array", "items": {"type": ["number", "string", "boolean"]}, "minItems": 1},
        {
            "type": "object",
            "properties": {"log": {"$ref": "#/$defs/Range"}, "count": {"type": "integer"}},
            "required": ["log", "count"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"log2": {"$ref": "#/$defs/Range"}},
            "required": ["log2"],
            "additionalProperties": False,
        },
    ]
}

RANGE = {
    "type": "array",
    "items": {"type": "number", "exclusiveMinimum": 0},
    "minItems": 2,
    "maxItems": 2,
}


def schema() -> dict[str, Any]:
    """The file's schema, from the models that check it, less what they check across keys."""
    whole = grid.Grid.model_json_schema(ref_template="#/$defs/{model}")
    definitions = {"Axis": AXIS, "Range": RANGE, **whole["$defs"]}
    del definitions["Stage"]
    properties = whole["properties"]
    stages = [_stage(spec, definitions) for spec in KINDS.values()]
    properties["stages"] = {
        "type": "object",
        "additionalProperties": {"anyOf": stages},
        "minProperties": 1,
    }
    properties["model"] = {"anyOf": [{"type": "string"}, properties["model"]]}
    urls = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    properties["notify"] = {"anyOf": [{"type": "string"}, urls, {"$ref": "#/$defs/Notify"}]}
    properties["references"]["items"] = properties["model"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A grid of the sweep",
        "type": "object",
        "properties": {key: properties[key] for key in grid.GRID_KEYS},
        "required": ["name", "model", "evaluate"],
        "anyOf": [{"required": ["stages"]}, {"required": ["references"]}],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _stage(spec: type[Strict], definitions: dict[str, Any]) -> dict[str, Any]:
    """A stage of one kind: its settings, where it starts, its axes and its arms."""
    whole = spec.model_json_schema(ref_template="#/$defs/{model}")
    definitions |= whole.pop("$defs", {})
    settings = whole["properties"]
    data_set = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/DataSpec"}]}
    many = {"type": "array", "items": data_set, "minItems": 1}
    settings["data"] = {"description": settings["data"]["description"], "anyOf": [data_set, many]}
    swept = [key for key in [*keys(spec), RATIO] if key not in ("kind", *grid.SAME_FOR_ALL)]
    axes = {key: {"$ref": "#/$defs/Axis"} for key in swept}
    own_axes = f"Axes{spec.__name__}"
    definitions[own_axes] = {"type": "object", "properties": axes, "additionalProperties": False}
    grid_of = {"$ref": f"#/$defs/{own_axes}"}
    inner = definitions["Adapter"]["properties"]
    settable = settings | {f"adapter.{key}": value for key, value in inner.items()}
    arm = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "set": {"type": "object", "properties": settable, "additionalProperties": False},
            "grid": grid_of,
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    whole_stage = grid.Stage.model_json_schema()["properties"]
    best = {"$ref": "#/$defs/Best"}
    return {
        "type": "object",
        "properties": {
            **settings,
            "start_from": {"type": "string", "default": grid.BASE},
            "resources": {"$ref": "#/$defs/TrialResources"},
            "parent": {**whole_stage["parent"], "anyOf": [{"type": "string"}, best]},
            "keep": whole_stage["keep"],
            "grid": grid_of,
            "arms": {"type": "array", "items": arm},
        },
        "required": ["kind", "data"],
        "additionalProperties": False,
    }
