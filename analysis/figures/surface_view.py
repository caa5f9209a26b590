"""What the charts of one surface (stage, arm, benchmark, metric) are made from.

A surface with a fit has the fit's view of each cell and the best learning rate of each batch size;
one without has its cells alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.benchmarks import task
from analysis.figures.interpolate import colour_range
from analysis.figures.scaling_rules import NoiseScale
from analysis.fit.rates import RateAt
from analysis.fit.surface import Fit
from analysis.tables.recipe import UNKNOWN, Recipe
from analysis.text import counted, number, rate, title


@dataclass(frozen=True)
class SurfaceView:
    """`cells` has a row per cell: learning_rate, batch_size, x and y (log2 of both), value, stderr,
    n, seeds, status, reason; with a fit also fit, fit_sd, and the probability of being as good as
    the best (probability, possible).

    `best_rates`: a row per batch size with batch_size, y, x (log2 of the best learning rate), low,
    high (95 %, log2) and status. vmin to vmax are the scores that colours and axes tell apart;
    a cliff's depth is left out. `before` is the score before training. `sized` is False where
    nobody knows the one batch size; `recipe` says whose published rules may stand beside.
    """

    stage: str
    arm: str
    benchmark: str
    metric: str
    higher_is_better: bool
    cells: pd.DataFrame
    vmin: float
    vmax: float
    fit: Fit | None = None
    best_rates: pd.DataFrame | None = None
    before: float | None = None
    noise: NoiseScale | None = None
    sized: bool = True
    recipe: Recipe = UNKNOWN

    @property
    def label(self) -> str:
        return task(self.benchmark).label

    @property
    def heading(self) -> str:
        return f"{self.label}, {title(self.stage, self.arm)}"

    @property
    def score_label(self) -> str:
        """The metric with its direction."""
        better = "higher" if self.higher_is_better else "lower"
        return f"{self.metric.replace('_', ' ')} ({better} is better)"

    @property
    def chance(self) -> float | None:
        return task(self.benchmark).chance

    @property
    def best(self) -> int | None:
        """Row of the cell with the best score as measured; None where no cell has one."""
        value = self.cells.value.to_numpy(dtype=float)
        if not np.isfinite(value).any():
            return None
        return int(np.nanargmax(value if self.higher_is_better else -value))

    def rows(self, status: str) -> np.ndarray:
        """Rows of the cells with this status."""
        return np.flatnonzero((self.cells.status == status).to_numpy())

    def descriptions(self) -> list[str]:
        """What a page shows where a cell is pointed at: lines joined by a line break."""
        return [self._describe(cell) for cell in self.cells.to_dict("records")]

    def _describe(self, cell: dict) -> str:
        place = [f"learning rate {rate(cell['learning_rate'])}"]
        if self.sized:
            ratio = rate(cell["learning_rate"] / cell["batch_size"])
            place = [f"{place[0]}, batch size {cell['batch_size']}", f"LR/BS {ratio}"]
        lines = [
            *place,
            f"{self.metric} {score_text(cell['value'], cell.get('total_stderr', cell['stderr']))}"
            if cell["status"] == "ok"
            else ": ".join(part for part in (cell["status"], cell["reason"]) if part),
            counted(int(cell["seeds"]), "seed")
            + (f", {int(cell['n'])} items" if np.isfinite(cell["n"]) else ""),
        ]
        if np.isfinite(cell.get("fit", np.nan)):
            lines.append(f"from all cells together {score_text(cell['fit'], cell['fit_sd'])}")
        if np.isfinite(cell.get("probability", np.nan)):
            lines.append(f"as good as the best with probability {cell['probability']:.2f}")
        return "\n".join(lines)


def score_text(value: float, stderr: float | None) -> str:
    """A score with as many digits as its standard error is worth."""
    if stderr is None or not np.isfinite(stderr):
        return f"{number(value, 4)} (no standard error known)"
    if stderr <= 0:
        return number(value, 4)
    places = max(0, 1 - int(np.floor(np.log10(stderr))))
    return f"{value:.{min(places, 6)}f} ± {number(stderr, 2)}"


def best_rates(rates: Sequence[RateAt]) -> pd.DataFrame | None:
    """LR*(B) as `SurfaceView.best_rates`; None where no batch size has a best rate."""
    if not rates:
        return None
    table = pd.DataFrame([rate._asdict() for rate in rates])
    return pd.DataFrame(
        {
            "batch_size": table.batch_size,
            "y": np.log2(table.batch_size),
            "x": np.log2(table.learning_rate),
            "low": np.log2(table.low),
            "high": np.log2(table.high),
            "status": [str(status) for status in table.status],
        }
    )


def fitted(
    fit: Fit,
    best_rates: pd.DataFrame | None = None,
    before: float | None = None,
    noise: NoiseScale | None = None,
    recipe: Recipe = UNKNOWN,
) -> SurfaceView:
    """The view of a fitted surface."""
    cells = fit.cells
    table = cells.table.assign(fit=np.nan, fit_sd=np.nan, probability=np.nan, possible=False)
    if fit.posterior is not None:
        table["fit"], table["fit_sd"] = fit.predict(table.x.to_numpy(), table.y.to_numpy())
    if fit.epsilon_set is not None:
        for name in ("probability", "possible"):
            table.loc[cells.ok, name] = fit.epsilon_set[name].to_numpy()
    vmin, vmax = colour_range(table.value[cells.ok].to_numpy(), cells.higher_is_better)
    return SurfaceView(
        stage=cells.stage,
        arm=cells.arm,
        benchmark=cells.benchmark,
        metric=cells.metric,
        higher_is_better=cells.higher_is_better,
        cells=table,
        vmin=vmin,
        vmax=vmax,
        fit=fit,
        best_rates=best_rates,
        before=before,
        noise=noise,
        sized=cells.sized,
        recipe=recipe,
    )


def unfitted(rows: pd.DataFrame) -> Iterator[SurfaceView]:
    """The metrics of one grid that are not primary: cells alone."""
    return measured(rows.loc[~rows.primary.fillna(False).astype(bool)])


def measured(rows: pd.DataFrame) -> Iterator[SurfaceView]:
    """The metrics of one grid as measured, without a fit; of two cells or more."""
    scored = rows.loc[rows.learning_rate.notna() & rows.batch_size.notna()]
    for (benchmark, metric), part in scored.groupby(["benchmark", "metric"], sort=False):
        table = _cell_means(part)
        if len(table) < 2:
            continue
        higher = part.higher_is_better.dropna()
        better = bool(higher.iloc[0]) if len(higher) else True
        vmin, vmax = colour_range(table.value[table.status == "ok"].to_numpy(), better)
        first = part.iloc[0]
        yield SurfaceView(
            first.stage, first.arm, str(benchmark), str(metric), better, table, vmin, vmax,
            sized=bool(part.lr_bs_ratio.notna().any()),
        )  # fmt: skip


def _cell_means(rows: pd.DataFrame) -> pd.DataFrame:
    """As `Cells.table`, without what only a fit needs."""
    good = rows.status == "ok"
    kept = rows.assign(
        value=rows.value.where(good),
        stderr=rows.stderr.where(good),
        seeds=good.astype(int),
        diverged=(rows.status == "diverged").astype(int),
    )
    table = (
        kept.groupby(["learning_rate", "batch_size"], sort=True)
        .agg(
            value=("value", "mean"),
            stderr=("stderr", "mean"),
            n=("n", "max"),
            seeds=("seeds", "sum"),
            diverged=("diverged", "sum"),
            reason=("reason", "max"),
        )
        .reset_index()
    )
    status = np.where(table.diverged > 0, "diverged", np.where(table.seeds > 0, "ok", "failed"))
    table["value"] = table.value.where(status == "ok")
    table["n"] = table.n.astype("float64")
    table["x"] = np.log2(table.learning_rate)
    table["y"] = np.log2(table.batch_size.astype(float))
    return table.assign(status=status)
