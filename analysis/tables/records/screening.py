"""Rows of screening runs, the short ones of `decide.fidelity`: a run's table lists them, with the
stage that they screen in a column of its own, and every reader of the table leaves them out."""

from typing import Any

import pandas as pd

SCREENS = "screens"
"""The column: the stage that a short run screens, "" for every other run. A table without screening
runs does not have it."""


def screened_stages(stages: dict[str, Any]) -> dict[str, str]:
    """Stages of screening runs -> what they screen; `stages` as in the manifest."""
    return {name: str(stage[SCREENS]) for name, stage in stages.items() if stage.get(SCREENS)}


def without(frame: pd.DataFrame) -> pd.DataFrame:
    """The table without them and without their column."""
    if SCREENS not in frame:
        return frame
    return frame.loc[~_marked(frame)].drop(columns=SCREENS).reset_index(drop=True)


def only(frame: pd.DataFrame) -> pd.DataFrame:
    """Their rows alone."""
    return frame.loc[_marked(frame)] if SCREENS in frame else frame.iloc[:0]


def _marked(frame: pd.DataFrame) -> Any:
    screened = frame[SCREENS]
    return screened.notna() & (screened != "")  # all are missing where no short run has begun
