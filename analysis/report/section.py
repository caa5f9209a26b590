"""One grid's section of the page: a stage, or one arm of it; its figures are written on the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis.advice import grid_file
from analysis.advice.advise import Advice
from analysis.advice.answers import BenchmarkAnswer
from analysis.advice.confounds import Confounds, confounds
from analysis.advice.grid_file import GridFile
from analysis.advice.next_grid import NextStep, next_step
from analysis.benchmarks import task
from analysis.compare.source import Source
from analysis.design.decide import spent
from analysis.figures import contour, interactive, kept, scaling_rules, style, surface_view
from analysis.figures.chart import Chart, Multiples, plain
from analysis.figures.draw import draw, draw_multiples
from analysis.figures.surface_view import SurfaceView
from analysis.figures.training_curves import training_curves
from analysis.fit.rates import RateAt
from analysis.fit.surface import Fit, FitStatus, fit
from analysis.fit.unit import unit_of
from analysis.posterior.cells import surfaces
from analysis.report import evidence, overview, summary_tables
from analysis.report.records import Answered
from analysis.report.training import read_curves
from analysis.tables.recipe import recipe
from analysis.tables.records.decided import why_stopped
from analysis.tables.records.plan_file import read_plan, to_come
from analysis.text import number, rate, safe, title

EMBEDDED = 8
"""Surfaces whose still figures stand in the page; of more, their files are listed."""


class Panel(NamedTuple):
    """One surface: its figures as SVG text by kind, the name of its files, its record for the
    page's interactive figures."""

    label: str
    metric: str
    figures: dict[str, Markup]
    name: str
    record: dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where figures go (FOLDER/figures) and what their names begin with."""

    folder: Path
    prefix: str

    def save(self, name: str, kind: str, chart: Chart | Multiples, table: pd.DataFrame) -> Markup:
        """PREFIX + NAME-KIND as PNG, SVG, PDF and CSV, drawn where its numbers have changed;
        returns the SVG to stand in the page."""
        path = self.folder / "figures" / f"{self.prefix}{name}-{kind}"
        text = table.to_csv(index=False).encode()
        shown = kept.drawn(path, chart, text)
        if shown is None:
            path.with_name(f"{path.name}.csv").write_bytes(text)
            drawn = draw_multiples(chart) if isinstance(chart, Multiples) else draw(chart)
            shown = style.save(drawn, path)
            kept.keep(path, chart, text)
        return Markup(shown)


def section(advice: Advice, source: Source, place: Place, all_metrics: bool) -> dict[str, Any]:
    """Everything the page says about one grid. `all_metrics` fits those that are not primary
    too."""
    frame = source.frame
    here = frame.loc[(frame.stage == advice.stage) & (frame.arm == advice.arm)]
    answered = answer(advice, source, here)
    noise, made = scaling_rules.noise_scale(here), recipe(here)
    before = overview.scores_before(frame, here)
    panels = []
    for one in advice.fits:
        name = one.cells.benchmark
        said = answered.answers.benchmarks[name]
        view = surface_view.fitted(one, best_rates(said), before.get(name), noise, made)
        panels.append(_panel(view, _optimum_sentence(one), place))
    if all_metrics:
        secondary = here.assign(primary=~here.primary.fillna(False).astype(bool))
        for cells in surfaces(secondary, source.items):
            view = surface_view.fitted(fit(cells), noise=noise, recipe=made)
            panels.append(_panel(view, f"{view.label}, {view.metric}.", place, primary=False))
    others = [] if all_metrics else list(surface_view.unfitted(here))
    benchmarks, trials = summary_tables.scores(here[here.learning_rate.notna()])
    heading = f"Training loss, {title(advice.stage, advice.arm)}"
    curves = training_curves(heading, read_curves(source, here))
    return {
        "id": f"{place.prefix}{safe(advice.name)}",
        "title": title(advice.stage, advice.arm),
        "said": answered,
        "advice": advice,
        "panels": panels,
        "embed": len(panels) <= EMBEDDED,
        "surfaces": [panel.record for panel in panels] + [_unfitted(view) for view in others],
        "curves": None if curves is None else plain(curves),
        "chosen": evidence.chosen(advice.fits),
        "descriptions": evidence.descriptions(advice.fits),
        "noise_scale": noise,
        "recipe": made,
        "noise": [(task(fit.cells.benchmark).label, fit.cells.noise_source) for fit in advice.fits],
        "before": before,
        "benchmarks": benchmarks,
        "trials": summary_tables.shown(trials),
        "trials_in_all": len(trials),
        "counts": pd.Series([trial["status"] for trial in trials]).value_counts().to_dict(),
    }


def answer(advice: Advice, source: Source, here: pd.DataFrame) -> Answered:
    """The first screen and the seven answers of one grid; `here` are its rows."""
    given = advice.answers
    cells = [fit.cells for fit in advice.fits]
    return Answered(
        given,
        {grid_cells.benchmark: unit_of(grid_cells) for grid_cells in cells},
        overview.overview(advice.fits, given.benchmarks, source.frame, source.items),
        _next_step(advice, source),
    )


def _next_step(advice: Advice, source: Source) -> NextStep:
    """By all that has run: a row that `--where` leaves out is not to be run again."""
    rows = source.every_row.loc[source.every_row.stage == advice.stage]
    plan = None if source.folder is None else read_plan(source.folder)
    arms = _arms_to_add_to(rows, plan)
    if advice.arm not in arms or (plan is not None and advice.stage not in set(plan.stage)):
        gone = "The grid file has these cells no more, so none is added to them."
        return NextStep(gone, "", 0, {})
    written = grid_file.read(advice.stage, advice.arm, source.grid_file)
    stopped = ""
    if written.chooser == "decide" and source.folder is not None:
        stopped = why_stopped(source.folder)
    if plan is not None and not stopped and (left := _to_come(advice.stage, written, plan, source)):
        return NextStep(f"{left} The same command goes on.", "", 0, {})
    if written.chooser and spent(written.trials) in stopped:
        stopped = ""  # of which more would run
    here = rows.loc[rows.arm == advice.arm]
    return next_step(advice.fits, advice.answers, here, source.grid_file, arms, plan, stopped)


def _to_come(stage: str, written: GridFile, plan: pd.DataFrame, source: Source) -> str:
    """What of a stage has not ended, in a sentence; "" where all has. A run that chooses its cells
    may plan more than it runs, or not yet all."""
    if not written.chooser:
        left = to_come(plan, source.every_row, stage)
        have = "trial has" if left == 1 else "trials have"
        return f"{left} planned {have} not ended." if left else ""
    planned = plan.key[plan.stage == stage]
    most = written.trials
    if written.chooser == "search":
        most = min(most * max(len(written.joined({"seed": []})["seed"]), 1), len(planned))
    ended = int(planned.isin(source.every_row.key).sum())
    return f"{ended} of the {most} trials that the run chooses have ended." if ended < most else ""


def _arms_to_add_to(rows: pd.DataFrame, plan: pd.DataFrame | None) -> list[str]:
    """Those of a stage with a trial in the plan; all where there is no plan of the stage."""
    rows = rows.loc[rows.learning_rate.notna()]
    planned: Any = rows if plan is None else rows[rows.key.isin(plan.key)]
    return list((planned if len(planned) else rows).arm.unique())


def best_rates(said: BenchmarkAnswer) -> pd.DataFrame | None:
    """LR*(B) as `SurfaceView.best_rates`."""
    return best_rates_of(said.rates)


def best_rates_of(rates: Sequence[RateAt]) -> pd.DataFrame | None:
    """The same of LR*(B) alone."""
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


def stage_confounds(advice: Advice, source: Source, every: list[Advice]) -> Confounds | None:
    """What moves with the ratio in a stage, over all its arms, beside the first of them."""
    arms = [answer for answer in every if answer.stage == advice.stage]
    if arms[0] is not advice:
        return None
    answers = [answer for arm in arms for answer in arm.answers.benchmarks.values()]
    fits = [fit for arm in arms for fit in arm.fits]
    return confounds(source.frame, advice.stage, fits, answers)


def _panel(view: SurfaceView, sentence: str, place: Place, primary: bool = True) -> Panel:
    """The figures of one surface, written and to stand in the page."""
    parts = [view.stage, view.arm, view.benchmark, "" if primary else view.metric]
    name = "-".join(safe(part) for part in parts if part)
    charts = interactive.charts(view)
    drawn = {kind: place.save(name, kind, chart, view.cells) for kind, chart in charts.items()}
    record = interactive.record(view, charts, sentence, f"{place.prefix}{name}")
    return Panel(view.label, view.metric, drawn, f"{place.prefix}{name}", record)


def _unfitted(view: SurfaceView) -> dict[str, Any]:
    sentence = "Cells only: this metric was not fitted (--all-metrics fits every one)."
    return interactive.record(view, interactive.charts(view), sentence)


def _optimum_sentence(fit: Fit) -> str:
    """What the contour says of the best setting over both axes."""
    label = task(fit.cells.benchmark).label
    if fit.status is FitStatus.IDENTIFIED and fit.optimum and fit.low and fit.high:
        x, y, ratio = fit.optimum
        text = (
            f"{label}: over both axes the best setting is near learning rate {rate(2**x)} with "
            f"batch size {number(2**y)}, LR/BS {rate(2**ratio)} ({rate(2**fit.low)} to "
            f"{rate(2**fit.high)})."
        )
    elif min(fit.cells.table.x.nunique(), fit.cells.table.y.nunique()) < 2:
        text = f"{label}."
    else:
        text = f"{label}: no single best setting inside both axes ({fit.reason})."
    return f"{text} {contour.outlier_note(surface_view.fitted(fit))}".strip()
