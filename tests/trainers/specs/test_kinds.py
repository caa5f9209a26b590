"""What every kind of stage has, beside its spec."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from analysis.text import title
from sweep.plan import starting_points
from trainers import dispatch
from trainers.specs.kinds import KINDS

STAGES = (Path(__file__).parents[3] / "docs" / "stages.md").read_text(encoding="utf-8")


def _arms(function) -> set[str]:
    tree = ast.parse(inspect.getsource(function))
    patterns = [case.pattern for node in ast.walk(tree) if isinstance(node, ast.Match)
                for case in node.cases]  # fmt: skip
    return {ast.literal_eval(one.value) for one in patterns if isinstance(one, ast.MatchValue)}


@pytest.mark.parametrize("function", [dispatch.train, dispatch.score_heldout])
def test_every_kind_is_trained_and_scored(function):
    assert _arms(function) == KINDS.keys()


def test_kinds_with_lanes_are_trained_in_one_pass():
    assert _arms(dispatch.train_lanes) == {name for name, spec in KINDS.items() if spec.HAS_LANES}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_published_settings_a_heading_and_a_paragraph(kind):
    assert starting_points.PUBLISHED[kind].source
    assert title(kind) != kind.capitalize()
    assert re.search(rf"^\*\*{title(kind)}s?\.\*\*", STAGES, re.MULTILINE)
