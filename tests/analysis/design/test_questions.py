"""What is asked of the benchmarks, and when it counts as answered."""

import numpy as np
import pytest

from analysis.advice.answers import answers
from analysis.design import questions
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from tests.analysis.planted import table


@pytest.mark.parametrize(("trials", "decided"), [(35, False), (36, True)])
def test_level_scores_are_an_answer_after_36_trials(trials, decided):
    flat = table(lambda x, y: np.zeros_like(x), noise=0.01, seeds=2)
    given = answers([fit(cells) for cells in surfaces(flat)])
    asked = questions.asked(given, 1.0, dict.fromkeys(given.benchmarks, trials), [])
    assert asked
    assert {question.decided for question in asked} == {decided}
    assert {question.answer == questions.LEVEL for question in asked} == {decided}


def test_a_contrast_without_a_bound_is_still_asked() -> None:
    flat = table(lambda x, y: np.zeros_like(x), noise=0.01, seeds=2)
    given = answers([fit(cells) for cells in surfaces(flat)])
    between = given.contrast._replace(octaves=2.0, low=1.5, high=None, missing="")
    for trials, decided in ((35, False), (36, True)):
        results = dict.fromkeys(given.benchmarks, trials)
        *_, question = questions.asked(given._replace(contrast=between), 1.0, results, [])
        assert question.words == "the contrast of task types"
        assert question.decided == decided, "once nothing else is open"
