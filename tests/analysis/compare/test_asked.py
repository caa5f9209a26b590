"""Two runs whose models were asked in different ways are compared with that said."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.compare import compare_runs
from analysis.compare.asked import asked_differently
from analysis.compare.compare_scores import compare_scores
from analysis.compare.source import Source
from analysis.posterior.cells import surfaces
from tests.analysis.planted import bowl, table

ALIKE = {
    "preset": "harness", "shots": {"arc_easy": 0, "arc_challenge": 0}, "limit": None,
    "documents": "d", "prompts": "p", "template": "short",
}  # fmt: skip


def scored(run: Path, **settings: Any) -> Source:
    """A run whose cells are scored on ARC with these settings."""
    frame = table(bowl, noise=0.001).assign(stage="sft")
    for key in frame.key:
        trial = run / "trials" / f"sft-{key}"
        (trial / "scores").mkdir(parents=True)
        identity = {"key": key, "stage": "sft", "parent": None, "arm": "", "spec": None}
        (trial / "trial.json").write_text(json.dumps(identity | {"kind": "sft", "model": "m"}))
        record = {"benchmark": "arc", "scores": [{"metric": "acc"}], "settings": ALIKE | settings}
        (trial / "scores" / "print.json").write_text(json.dumps(record))
    wanted = {"benchmark": "arc", "metric": "acc", "fingerprint": "print"}
    manifest = {"stages": {"sft": {"evaluations": [wanted]}}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return Source(run.name, frame, run, None, manifest)


@pytest.mark.parametrize(
    ("settings", "unlike"),
    [
        ({}, ()),
        ({"shots": {"arc_easy": 5, "arc_challenge": 5}}, ("shots 0 and 5",)),
        ({"preset": "smoltulu"}, ("preset harness and smoltulu",)),
        ({"template": "a long chat template of another model"}, ("chat template",)),
        ({"documents": "others", "prompts": "others"}, ("items",)),
        ({"prompts": "others"}, ("prompts as rendered",)),
        ({"limit": 100, "documents": "first 100", "prompts": "first 100"}, ()),
    ],
)
def test_what_differs_between_the_scores_of_two_runs_is_named(tmp_path, settings, unlike):
    one, other = scored(tmp_path / "a"), scored(tmp_path / "b", **settings)
    keys = tuple(one.frame.key)
    assert asked_differently(one, keys, other, keys, "arc") == unlike
    table_alone = Source("table", one.frame, None, None, {})
    assert asked_differently(one, keys, table_alone, keys, "arc") == ()


def test_a_comparison_of_runs_that_were_asked_differently_says_so(tmp_path):
    runs = {"a": scored(tmp_path / "a"), "b": scored(tmp_path / "b", preset="smoltulu")}
    rows = compare_scores({name: (run, surfaces(run.frame)) for name, run in runs.items()})
    (row,) = rows
    assert row.sentence.endswith(
        " They were asked differently (preset harness and smoltulu), which may be the difference."
    )
    headline = compare_runs.Comparison(rows, [], []).headline
    assert "on ARC (asked differently)" in headline
