"""Fits -> everything that is said about each grid, a stage or one arm of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.advice.answers import Answers, answers
from analysis.fit.surface import Fit


@dataclass(frozen=True)
class Advice:
    """One grid: its fits, one per benchmark, and the answers read from them."""

    stage: str
    arm: str
    fits: tuple[Fit, ...]
    answers: Answers

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.arm}" if self.arm else self.stage


def advise(
    fits: Iterable[Fit],
    weights: Mapping[str, float] | None = None,
    frame: pd.DataFrame | None = None,
) -> list[Advice]:
    """One `Advice` per stage and arm, in the order of the fits; `weights` by benchmark are those of
    the mix (`setting.equal_weights` where None); `frame` holds the results, whose sizes of models
    and data some published rules need."""
    groups: dict[tuple[str, str], list[Fit]] = {}
    for fit in fits:
        groups.setdefault((fit.cells.stage, fit.cells.arm), []).append(fit)
    return [
        Advice(stage, arm, tuple(members), answers(members, weights, _rows(frame, stage, arm)))
        for (stage, arm), members in groups.items()
    ]


def _rows(frame: pd.DataFrame | None, stage: str, arm: str) -> pd.DataFrame | None:
    return None if frame is None else frame.loc[(frame.stage == stage) & (frame.arm == arm)]
