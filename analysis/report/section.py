"""One grid's section of the page: a stage, or one arm of it; its figures are written on the way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis.advice import without_contaminated
from analysis.advice.confounds import Confounds, confounds
from analysis.advice.next_grid import next_grid
from analysis.advice.recommend import Advice, advise, headline
from analysis.advice.source import Source
from analysis.benchmarks import task
from analysis.figures import data, interactive, scaling_rules, style
from analysis.figures.contour import draw_contour
from analysis.figures.mix import draw_prices
from analysis.figures.ratio import draw_ratio
from analysis.fit.cells import Cells, surfaces
from analysis.fit.surface import Fit, fit
from analysis.report import evidence, summary_tables
from analysis.text import rate, safe, title

EMBEDDED = 8
"""Surfaces whose still figures stand in the page; of more, their files are listed."""


@dataclass(frozen=True)
class Panel:
    """One surface: its figures as SVG text to embed and by the name of its files, and its record
    for the explorer."""

    label: str
    contour: Markup
    ratio: Markup
    name: str
    record: dict[str, Any]


def section(
    advice: Advice, source: Source, folder: Path, prefix: str, all_metrics: bool
) -> dict[str, Any]:
    """Everything the page says about one grid; figures go to FOLDER/figures, their names and the
    section's id begin with `prefix`. `all_metrics` fits those that are not primary too."""
    frame = source.frame
    here = frame.loc[(frame.stage == advice.stage) & (frame.arm == advice.arm)]
    before = summary_tables.before_training(frame, advice.stage)
    noise = scaling_rules.noise_scale(here)
    benchmarks, trials = summary_tables.scores(here)
    cells = [one.cells for one in advice.fits]
    panels = [
        _panel(one, before.get(one.cells.benchmark), noise, advice, folder, prefix)
        for one in advice.fits
    ]
    if all_metrics:
        secondary = here.assign(primary=~here.primary.fillna(False).astype(bool))
        panels += [
            _panel(fit(one), None, noise, None, folder, prefix)
            for one in surfaces(secondary, source.items)
        ]
    others = [] if all_metrics else list(interactive.measured(here))
    return {
        "id": f"{prefix}{safe(advice.name)}",
        "title": title(advice.stage, advice.arm),
        "headline": headline(advice),
        "cards": list((advice.task_types or advice.benchmarks).values()),
        "next": next_grid(advice.fits, here, source.grid_file),
        "advice": advice,
        "mix": _mix(advice, folder, prefix),
        "axis": _ratio_axis(cells),
        "panels": panels,
        "embed": len(panels) <= EMBEDDED,
        "surfaces": [panel.record for panel in panels] + others,
        "optima": evidence.optima(advice.fits),
        "rivals": evidence.rivals(advice.fits),
        "noise_scale": noise,
        "ends": [end for one in cells for end in summary_tables.ends(one)],
        "noise": [(task(one.benchmark).label, one.noise_source) for one in cells],
        "before": before,
        "benchmarks": benchmarks,
        "trials": trials,
        "counts": pd.Series([trial["status"] for trial in trials]).value_counts().to_dict(),
    }


def without_leaks(advice: Advice, clean: without_contaminated.Clean | None) -> dict[str, Any]:
    """What becomes of a grid's scores and recommendations without the contaminated items."""
    if clean is None:
        return {"leaks": [], "changes": []}
    here = (clean.scores.stage == advice.stage) & (clean.scores.arm == advice.arm)
    scores = clean.scores.loc[here]
    touched = set(scores.benchmark)
    rows = clean.frame.loc[
        (clean.frame.stage == advice.stage)
        & (clean.frame.arm == advice.arm)
        & clean.frame.benchmark.isin(touched)
    ]
    anew = {cells.benchmark: fit(cells) for cells in surfaces(rows, clean.items)}
    after = advise(
        anew[one.cells.benchmark] if one.cells.benchmark in touched else one
        for one in advice.fits
        if one.cells.benchmark not in touched or one.cells.benchmark in anew
    )
    return {
        "leaks": without_contaminated.summary(scores),
        "changes": without_contaminated.changes(advice, after[0], touched) if after else [],
    }


def stage_confounds(advice: Advice, source: Source, every: list[Advice]) -> Confounds | None:
    """What moves with the ratio in a stage, over all its arms, beside the first of them."""
    arms = [one for one in every if one.stage == advice.stage]
    if arms[0] is not advice:
        return None
    return confounds(source.frame, advice.stage, [fit for one in arms for fit in one.fits])


def _panel(
    one: Fit,
    before: float | None,
    noise: scaling_rules.NoiseScale | None,
    advice: Advice | None,
    folder: Path,
    prefix: str,
) -> Panel:
    """`advice` is None for a metric that is not its benchmark's primary one."""
    cells = one.cells
    parts = [cells.stage, cells.arm, cells.benchmark, "" if advice else cells.metric]
    name = prefix + "-".join(safe(part) for part in parts if part)
    contour, ratio = data.contour_info(one, noise), data.ratio_info(one, before)
    drawn = {}
    for kind, table, figure in (
        ("contour", contour.cells, draw_contour(contour)),
        ("ratio", ratio.points, draw_ratio(ratio)),
    ):
        path = folder / "figures" / f"{name}-{kind}"
        drawn[kind] = Markup(style.save(figure, path))
        table.to_csv(path.with_name(f"{path.name}.csv"), index=False)
    label = task(cells.benchmark).label
    advised = advice.benchmarks.get(cells.benchmark) if advice else None
    sentence = advised.sentence if advised else f"{label}, {cells.metric}: {one.reason}."
    if advised and advised.ratio and advised.low and advised.high:
        interval = f"{rate(advised.low)} to {rate(advised.high)}"
        sentence = f"{label}: best LR/BS near {rate(advised.ratio)}, 95 % interval {interval}."
    sentence = f"{sentence} {contour.apart}".strip()
    record = interactive.fitted(one, contour, ratio, sentence, name)
    return Panel(label, drawn["contour"], drawn["ratio"], name, record)


def _mix(advice: Advice, folder: Path, prefix: str) -> dict[str, Any] | None:
    """The compromise, with its figure where it has a front."""
    mix = advice.mix
    if mix is None:
        return None
    if mix.front is None:
        return {"found": mix, "figure": None, "name": ""}
    name = f"{prefix}{safe(advice.name)}-mix"
    path = folder / "figures" / f"{name}-prices"
    figure = Markup(style.save(draw_prices(mix), path))
    mix.front.to_csv(path.with_name(f"{path.name}.csv"), index=False)
    return {"found": mix, "figure": figure, "name": name}


def _ratio_axis(grids: list[Cells]) -> dict[str, float]:
    """Ends of the log2 ratio axis shared by a grid's intervals."""
    ratios = np.concatenate([(cells.table.x - cells.table.y).to_numpy() for cells in grids])
    return {"low": float(ratios.min()), "high": float(ratios.max())}
