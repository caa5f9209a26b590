"""What else could explain a higher ratio: what changes along with LR/BS in the grid that was run.

At fixed epochs with a decaying schedule the summed learning rate is proportional to LR/BS, and
steps fall as the batch grows. A grid tells the ratio from such a column only where the two part:
in an arm that holds steps, tokens or the half-life of AdamW's second moment constant over the batch
sizes (Marek et al. 2025: beta2(B) = beta2^(B / B0)). Where no arm does, the part of a grid file is
printed that adds it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.advice.answers import BenchmarkAnswer
from analysis.benchmarks import task
from analysis.fit.rates import RateStatus
from analysis.fit.ratio import BestRatio
from analysis.fit.surface import Fit
from analysis.tables.recipe import recipe
from analysis.text import listed, rate, with_interval

COLUMNS = {
    "steps": "number of optimizer steps",
    "learning_rate_sum": "summed learning rate",
    "tokens": "number of tokens trained on",
    "warmup_steps": "number of warmup steps",
    "half_life_tokens": "half-life of AdamW's second moment, in tokens",
}
CONTROLS = {
    "steps": "equal steps",
    "tokens": "equal tokens",
    "half_life_tokens": "constant half-life",
}
ARMS = {
    "steps": ("equal_steps", "steps", ("epochs", "tokens")),
    "tokens": ("equal_tokens", "tokens", ("epochs", "steps")),
    "half_life_tokens": ("constant_half_life", "adam_beta2_half_life_tokens", ("adam_beta2",)),
}
"""Control -> the arm of a grid file that has it, its key, and those of which it takes the place."""

OF_ADAM = ("half_life_tokens",)
"""What only AdamW's trainings have."""

CONSTANT = 0.05
"""Largest range of log2 of a column that counts as constant (an epoch's last batch is shorter)."""

TIED = 0.95
"""R^2 of log2 of a column on log2 ratio from which no analysis tells the two apart."""


class Column(NamedTuple):
    """One candidate explanation over the cells of one arm.

    `asked`: False of what the arm's optimizer does not have. `known`: recorded for every cell.
    `constant`: the same in every cell. `r2_ratio`: share of the variance of its log2 that log2
    ratio explains, None where constant or unknown. `held`: constant over batch sizes at each
    learning rate.
    """

    name: str
    label: str
    asked: bool
    known: bool
    constant: bool
    held: bool
    r2_ratio: float | None

    @property
    def tied(self) -> bool:
        """It moves with the ratio so closely that the two cannot be told apart."""
        return self.r2_ratio is not None and self.r2_ratio >= TIED


class ArmEffect(NamedTuple):
    """The best ratio of one benchmark within one arm (None with too few cells), and what the arm
    holds constant."""

    arm: str
    benchmark: str
    controls: tuple[str, ...]
    ratio: BestRatio | None


@dataclass(frozen=True)
class Confounds:
    """The candidates of one stage; `cells` has a row per arm and cell with `COLUMNS` beside the
    axes, `arms` a list of columns per arm.

    `missing` names the controls that no arm holds; `grid_file` is the YAML that would add them, ""
    where none is missing. `sentence` says all this in words.
    """

    stage: str
    cells: pd.DataFrame
    arms: dict[str, list[Column]]
    missing: tuple[str, ...]
    grid_file: str
    sentence: str


def confounds(
    frame: pd.DataFrame, stage: str, fits: Sequence[Fit], answers: Sequence[BenchmarkAnswer]
) -> Confounds:
    """Of one stage: `frame` is the whole results table, `fits` those of all the stage's arms and
    `answers` theirs, in the same order."""
    cells = _cells(pd.DataFrame(frame.loc[(frame.stage == stage) & (frame.status == "ok")]))
    here = frame.loc[frame.stage == stage]
    adam = {arm for arm in here.arm.unique() if recipe(here.loc[here.arm == arm]).adam}
    arms = {str(arm): _columns(rows, arm in adam) for arm, rows in cells.groupby("arm", sort=False)}
    if not adam:  # then no arm could hold it
        arms = {arm: [c for c in columns if c.asked] for arm, columns in arms.items()}
    controls = {
        arm: tuple(CONTROLS[c.name] for c in columns if _controls(c))
        for arm, columns in arms.items()
    }
    effects = [
        ArmEffect(fit.cells.arm, fit.cells.benchmark, controls.get(fit.cells.arm, ()), answer.ratio)
        for fit, answer in zip(fits, answers, strict=True)
    ]
    held = {c.name for columns in arms.values() for c in columns if _controls(c)}
    missing = tuple(name for name in CONTROLS if name not in held and (adam or name not in OF_ADAM))
    return Confounds(
        stage=stage,
        cells=cells,
        arms=arms,
        missing=tuple(CONTROLS[name] for name in missing),
        grid_file=_grid_file(stage, cells, missing) if missing and len(cells) else "",
        sentence=_sentence(cells, arms, effects, missing),
    )


def _controls(column: Column) -> bool:
    return column.name in CONTROLS and column.known and column.held


def _cells(rows: pd.DataFrame) -> pd.DataFrame:
    axes = ["arm", "learning_rate", "batch_size"]
    kept = [*axes, "steps", "learning_rate_sum", "tokens", "warmup_steps", "adam_beta2"]
    numbers = pd.DataFrame({name: rows[name].astype("float64") for name in kept[3:]})
    keys = [rows[name] for name in axes]
    table = pd.DataFrame(numbers.groupby(keys, sort=False).mean()).reset_index()
    per_step = table.tokens / table.steps
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log(0.5) / np.log(table.adam_beta2.to_numpy())
    return table.assign(half_life_tokens=steps * per_step)


def _columns(rows: pd.DataFrame, adam: bool) -> list[Column]:
    x, y = np.log2(rows.learning_rate.to_numpy()), np.log2(rows.batch_size.to_numpy(dtype=float))
    effects = []
    for name, label in COLUMNS.items():
        values = rows[name].to_numpy(dtype=float)
        asked = adam or name not in OF_ADAM
        known = asked and bool(len(values) and np.isfinite(values).all() and (values >= 0).all())
        logs = np.log2(np.maximum(values, 1e-300)) if known else np.zeros(len(values))
        constant = known and bool(np.ptp(logs) <= CONSTANT)
        held = known and (constant or np.ptp(y) == 0 or _held(x, logs))
        if name == "warmup_steps":  # the same number is another share of fewer steps
            steps_held = any(column.held for column in effects if column.name == "steps")
            held = held and (steps_held or not values.any())
        effects.append(
            Column(
                name,
                label,
                asked,
                known,
                constant,
                held,
                _r2(x - y, logs) if known and not constant else None,
            )
        )
    return effects


def _held(x: np.ndarray, logs: np.ndarray) -> bool:
    """Whether a column is the same at all batch sizes of each learning rate; not where each rate
    ran at one of several batch sizes, which shows nothing."""
    spreads = [np.ptp(logs[x == one]) for one in np.unique(x) if (x == one).sum() > 1]
    return all(spread <= CONSTANT for spread in spreads) and bool(spreads)


def _r2(column: np.ndarray, target: np.ndarray) -> float:
    design = np.column_stack([np.ones(len(target)), column])
    rest = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return float(1 - rest.var() / target.var())


def _sentence(
    cells: pd.DataFrame,
    arms: dict[str, list[Column]],
    effects: list[ArmEffect],
    missing: tuple[str, ...],
) -> str:
    parts: list[str] = []
    for arm, columns in arms.items():
        where = (
            f"In the arm {arm} "
            if arm
            else f"In {'this grid' if len(arms) == 1 else 'the grid itself'} "
        )
        tied = [f"the {c.label}" for c in columns if c.tied]
        held = [f"the {c.label}" for c in columns if c.known and c.held]
        unknown = [c.label for c in columns if c.asked and not c.known]
        if tied:
            verb = "moves" if len(tied) == 1 else "move"
            parts.append(f"{where}{listed(tied)} {verb} with LR/BS and cannot be told from it.")
        if held:
            parts.append(
                f"{where}{listed(held)} {'is' if len(held) == 1 else 'are'} the same "
                "at every batch size. That cannot explain a difference between ratios."
            )
        if sizes := _all_warmup(cells.loc[cells.arm == arm]):
            parts.append(
                f"{where}warmup takes the whole training at batch size {listed(sizes)}, so its "
                "rate never reaches the peak there."
            )
        if unknown:
            parts.append(f"{where.rstrip()}, not recorded: {listed(unknown)}.")
    for effect in effects:
        if effect.controls and effect.ratio is not None:
            parts.append(
                f"With {listed(list(effect.controls))} ({effect.arm or 'the grid itself'}) the "
                f"best ratio of {task(effect.benchmark).label} {_place(effect.ratio)}."
            )
    if missing:
        names = [CONTROLS[name] for name in missing]
        parts.append(
            f"There is no control run with {listed(names)}: a preference for a ratio may be one "
            "for those instead."
        )
    return " ".join(parts)


def _all_warmup(cells: pd.DataFrame) -> list[str]:
    """Batch sizes at which the training ends before its warmup does."""
    over = cells[(cells.warmup_steps > 0) & (cells.warmup_steps >= cells.steps)]
    return [str(size) for size in sorted(over.batch_size.unique())]


def _place(best: BestRatio) -> str:
    match best.status:
        case RateStatus.INTERIOR:
            return f"is {with_interval(best.ratio, best.low, best.high)}"
        case RateStatus.EDGE:
            end = "upper" if best.side == "higher" else "lower"
            return f"lies at the {end} end, near {rate(best.ratio)}"
    return f"is open within {rate(best.low)} to {rate(best.high)}"


def _grid_file(stage: str, cells: pd.DataFrame, missing: tuple[str, ...]) -> str:
    """The part of a grid file that repeats the grid under each missing control, at the geometric
    mean of what its cells had, in place of what the stage gives; arms are said in `docs` and
    README."""
    lines = ["stages:", f"  {stage}:", "    arms:", "      - {name: as_is, set: {}}"]
    for name in missing:
        arm, key, instead = ARMS[name]
        typical = _typical(cells[name].to_numpy())
        value = f"{typical:.0f}" if typical else "STEPS" if name == "steps" else "TOKENS"
        settings = ", ".join([f"{key}: {value}", *(f"{other}: null" for other in instead)])
        lines.append(f"      - {{name: {arm}, set: {{{settings}}}}}")
    return "\n".join(lines) + "\n"


def _typical(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values) & (values > 0)]
    return float(np.exp(np.log(known).mean())) if len(known) else None
