"""Scores that do not belong in one column are refused."""

from pathlib import Path
from typing import Any

import pytest

from analysis.tables.errors import ResultsError
from analysis.tables.records.one_column import notes, refuse_mixtures


def row(number: int, **settings: Any) -> dict[str, Any]:
    path = Path(f"runs/a/trials/{number}/scores/0.json")
    given = {"documents": "d", "prompts": "p", "template": "t", "model_class": "SharedPrefixLM"}
    given |= settings
    names = {"benchmark": "arc", "model": "m", "stage": "sft", "arm": ""}
    return names | {"key": str(number), "scored": (path, given)}


@pytest.mark.parametrize("mark", ["documents", "prompts"])
def test_two_kinds_of_scores_of_one_model_are_refused(mark):
    with pytest.raises(
        ResultsError, match=r"trials/0 and .*trials/1 were scored (on|by) different"
    ):
        refuse_mixtures([row(0), row(1, **{mark: "another"})])


def test_another_model_may_have_other_prompts():
    other = row(1, prompts="q", model_class="HFLM") | {"model": "another"}
    refuse_mixtures([row(0), other])
    assert notes([row(0), other]) == ()


def test_cells_that_two_classes_have_scored_are_told_with_their_number():
    rows = [row(0), row(0), row(1), row(2, model_class="HFLM")]
    refuse_mixtures(rows)
    (note,) = notes(rows)
    assert note.startswith("ARC: 1 by HFLM and 2 by SharedPrefixLM, two classes whose scores")


def test_records_that_do_not_say_their_class_stand_beside_those_that_do():
    old = row(1)
    del old["scored"][1]["model_class"]
    refuse_mixtures([row(0), old])
    assert notes([row(0), old]) == ()


def test_models_of_two_chat_templates_stand_in_one_column_and_are_told():
    base = row(0, template="its own", prompts="q") | {"stage": "base"}
    arm = row(3, template="third", prompts="r") | {"arm": "terse"}
    rows = [base, row(1), row(2), arm]
    rows += [one | {"benchmark": "gsm8k"} for one in rows]
    refuse_mixtures(rows)
    assert notes(rows) == (
        "ARC and GSM8K: asked in different chat templates: base; sft; sft (terse); a difference "
        "between them may be one between the prompts",
    )


def test_items_are_the_same_under_every_chat_template():
    with pytest.raises(ResultsError, match="on different items"):
        refuse_mixtures([row(0), row(1, template="another", documents="another")])


def test_prompts_that_were_cut_are_told_once_for_each_benchmark():
    rows = [row(0, cut_prompts=0), row(1, cut_prompts=37), row(2, cut_prompts=None), row(3)]
    (note,) = notes(rows)
    assert note.startswith("ARC: 37 prompts are longer than the model's context")


def test_a_metric_of_few_tasks_is_told_once():
    assert notes([row(0, partial="mean: of 1 of 3"), row(1, partial="mean: of 1 of 3")]) == (
        "mean: of 1 of 3",
    )
