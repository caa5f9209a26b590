"""How differences of a benchmark's score are written."""

from analysis.benchmarks import task
from analysis.fit.optimum import tolerance
from analysis.posterior.cells import Cells
from analysis.text import Unit

SHOWN = 0.01
"""A difference below this share of the smallest one that matters is written as none."""


def unit_of(cells: Cells) -> Unit:
    """Points for shares between 0 and 1, else the metric's own units, down to `SHOWN`."""
    of_loss = "loss" in task(cells.benchmark).label.lower()
    least = SHOWN * tolerance(cells) if cells.ok.any() else 0.0
    return Unit("loss" if of_loss else cells.metric.replace("_", " "), cells.is_share, least)
