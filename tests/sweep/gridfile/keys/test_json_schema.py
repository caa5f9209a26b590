"""The schema that editors read is the one that the code checks by."""

import json
from pathlib import Path

import jsonschema
import pytest

from sweep.gridfile import yaml as yamlfile
from sweep.gridfile.keys.json_schema import schema

GRIDS = Path(__file__).parents[4] / "grids"


def complaints(data) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(schema()).iter_errors(data)]


def test_file_in_grids_is_up_to_date():
    committed = json.loads((GRIDS / "grid.schema.json").read_text())
    assert committed == json.loads(json.dumps(schema())), (
        "run python -m sweep.gridfile.load --schema > grids/grid.schema.json"
    )


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_grid_fits_and_names_the_schema(path):
    assert complaints(yamlfile.read(path).data) == []
    assert path.read_text().startswith("# yaml-language-server: $schema=grid.schema.json\n")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("stages", "sft", "epoch"), 2),
        (("stages", "sft", "schedule"), "liner"),
        (("stages", "sft", "grid", "learning_rate"), {"log": [1e-4, 1e-2]}),
        (("evaluate", "limit"), 0),
        (("modle",), "tiny"),
    ],
)
def test_a_wrong_key_or_value_does_not_fit(path, value):
    data = yamlfile.read(GRIDS / "quickstart.yaml").data
    *parents, last = path
    target = data
    for key in parents:
        target = target[key]
    target[last] = value
    assert complaints(data)
