"""LR*(B) on published grids whose best batch size is cut away.

    python -m tests.bench.bench_rates [steplaw_dense.csv] [--each]

Step Law's dense surfaces (`bench_surfaces.py`) without batch sizes up to the best one, so that the
two-dimensional optimum lies on the border, as it does in most grids at a fixed number of
epochs. A batch size counts if its best measured rate is neither the lowest nor the highest of
those measured there. `covered`: the 95 % interval meets the rates within 0.05 % of the least loss
of that batch size (Akima between cells).
"""

import argparse
import os
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy.interpolate import Akima1DInterpolator

from analysis.advice.answers import answers
from analysis.fit.rates import RateStatus
from analysis.fit.surface import FitStatus
from tests.bench.bench_surfaces import DATA, Surface, best_cell, fitted, read

NEAR = 0.0005
FEWEST = 3
"""Batch sizes that are kept at least."""


class Row(NamedTuple):
    surface: str
    batch_size: int
    interior: bool
    status: str
    covered: bool
    octaves: float
    direction: str
    identified: bool


def cut(one: Surface) -> Surface:
    """The batch sizes above that of the best cell, at least `FEWEST`."""
    sizes = np.unique(one.y)
    first = sizes[min(int(np.searchsorted(sizes, best_cell(one)[1])) + 1, len(sizes) - FEWEST)]
    kept = one.y >= first
    return one._replace(x=one.x[kept], y=one.y[kept], loss=one.loss[kept])


def rows_of(whole: Surface) -> list[Row]:
    seen = cut(whole)
    result = fitted(seen, None)
    answer = answers([result]).benchmarks[result.cells.benchmark]
    assert answer.direction is not None
    rows = []
    for rate in answer.rates:
        here = np.isclose(seen.y, np.log2(rate.batch_size), atol=0.1)
        order = np.argsort(seen.x[here])
        x, loss = seen.x[here][order], seen.loss[here][order]
        least = int(loss.argmin())
        low, high = np.log2([rate.low, rate.high])
        fine = np.linspace(x[0], x[-1], 801)
        values = Akima1DInterpolator(x, loss)(fine) if len(x) > 2 else np.interp(fine, x, loss)
        good = fine[values <= values.min() * (1 + NEAR)]
        rows.append(
            Row(
                surface=whole.name,
                batch_size=rate.batch_size,
                interior=0 < least < len(x) - 1,
                status=str(rate.status),
                covered=bool(low <= good.max() and high >= good.min()),
                octaves=high - low,
                direction=str(answer.direction.verdict),
                identified=result.status is FitStatus.IDENTIFIED,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=DATA / "grids" / "steplaw_dense.csv")
    parser.add_argument("--surfaces", type=int, default=17)
    parser.add_argument("--each", action="store_true", help="one line per batch size")
    arguments = parser.parse_args()
    if not arguments.data.exists():
        parser.error(f"{arguments.data} is not there; give the file, or its folder in SWEEP_DATA")
    started = time.monotonic()
    whole = read(arguments.data)[: arguments.surfaces]
    table = pd.DataFrame([row for one in whole for row in rows_of(one)])
    if arguments.each:
        print(table.round(2).to_string(index=False))
    inner = table[table.interior]
    called = inner[inner.status == RateStatus.INTERIOR]
    border = table[~table.interior]
    per_surface = table.groupby("surface").first()
    print(
        f"{len(whole)} surfaces, {len(table)} batch sizes; 2-D optimum identified "
        f"{per_surface.identified.mean():.2f}; batch: "
        f"{per_surface.direction.value_counts().to_dict()}\n"
        f"LR*(B) interior called {len(called) / max(len(inner), 1):.3f} of {len(inner)}; of those "
        f"covered {called.covered.mean():.3f}, median width {called.octaves.median():.2f} octaves; "
        f"at a border called interior "
        f"{(border.status == RateStatus.INTERIOR).mean() if len(border) else 0:.3f} of "
        f"{len(border)}\n{time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
