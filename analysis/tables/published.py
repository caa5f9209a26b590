"""The paper's tables and Tulu 3's settings, through the one schema (data/SOURCES.md).

python -m analysis.report published:smoltulu
python -m analysis.report runs/lr_bs published:smoltulu
"""

from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import pandas as pd

from analysis.benchmarks import task
from analysis.tables.errors import ResultsError
from analysis.tables.schema import COLUMNS, validated

PREFIX = "published:"
NAMES = ("smoltulu",)
STAGES = {"reward_model": "reward", "rm": "reward"}


class Setting(NamedTuple):
    """A published recipe of one stage; `table` says where it is printed."""

    name: str
    stage: str
    model: str
    learning_rate: float
    batch_size: int
    table: str
    note: str


@cache
def settings() -> tuple[Setting, ...]:
    """Every published recipe, in the order of the paper's tables."""
    return tuple(Setting(**row) for row in _data("settings"))


def of_stage(stage: str) -> list[Setting]:
    """The recipes of a stage called sft, dpo, reward or rlvr; none of one with another name."""
    return [setting for setting in settings() if setting.stage == STAGES.get(stage, stage)]


def table(name: str) -> pd.DataFrame:
    """Scores of the published models in the order of `schema.COLUMNS`, as fractions.

    Models that are of no published recipe stand outside the grid, without axes.

    Raises:
        ResultsError: nothing is published under this name here.
    """
    if name not in NAMES:
        allowed = ", ".join(PREFIX + name for name in NAMES)
        raise ResultsError(f"{PREFIX}{name}: not a published table; use one of {allowed}")
    recipes = {setting.name: setting for setting in settings()}
    rows = []
    for row in _data("scores"):
        recipe = recipes.get(row["name"])
        rows.append(
            {
                **dict.fromkeys(("parent", "arm", "reason"), ""),
                "key": row["name"],
                "stage": recipe.stage if recipe else "others",
                "model": recipe.model if recipe else row["name"],
                "learning_rate": recipe.learning_rate if recipe else None,
                "batch_size": recipe.batch_size if recipe else None,
                "lr_bs_ratio": recipe.learning_rate / recipe.batch_size if recipe else None,
                "status": "ok",
                "benchmark": row["benchmark"],
                "metric": row["metric"],
                "primary": True,
                "higher_is_better": True,
                "task_type": task(row["benchmark"]).task_type,
                "value": row["percent"] / 100,
            }
        )
    frame = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    order = {"sft": 0, "dpo": 1, "reward": 2, "rlvr": 3, "others": 4}
    ranked = frame.sort_values("stage", key=lambda stage: stage.map(order), kind="stable")
    return validated(ranked, f"{PREFIX}{name}")


def _data(name: str) -> list[dict[str, Any]]:
    with (files("analysis.tables") / "data" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False).to_dict("records")
