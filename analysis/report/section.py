"""One grid's section of the page: a stage, or one arm of it; its figures are written on the way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.advice.advise import Advice
from analysis.advice.confounds import Confounds, confounds
from analysis.benchmarks import task
from analysis.compare.source import Source
from analysis.figures import contour, interactive, kept, scaling_rules, style, surface_view
from analysis.figures.chart import Chart, Multiples, plain
from analysis.figures.draw import draw, draw_multiples
from analysis.figures.surface_view import SurfaceView
from analysis.figures.training_curves import (
    TrainingCurve,
    curve_points,
    points_per_curve,
    training_curves,
)
from analysis.fit.batch import Batch, Direction
from analysis.fit.surface import Fit, FitStatus, fit
from analysis.posterior.cells import surfaces
from analysis.report import evidence, overview, summary_tables
from analysis.report.answered import answer
from analysis.report.page import Decontaminated, GridPage, Panel
from analysis.tables.recipe import recipe
from analysis.tables.records import run_folder, training_log
from analysis.text import rate, safe, title

EMBEDDED = 8
"""Surfaces whose still figures stand in the page; of more, their files are listed."""


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


def section(
    advice: Advice,
    source: Source,
    place: Place,
    all_metrics: bool,
    decontaminated: Decontaminated,
    confounds: Confounds | None,
) -> GridPage:
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
        rates = surface_view.best_rates(answered.answers.benchmarks[name].rates)
        view = surface_view.fitted(one, rates, before.get(name), noise, made)
        way = answered.answers.benchmarks[name].direction
        panels.append(_panel(view, _optimum_sentence(one, way), place))
    if all_metrics:
        secondary = here.assign(primary=~here.primary.fillna(False).astype(bool))
        for cells in surfaces(secondary, source.items):
            view = surface_view.fitted(fit(cells), noise=noise, recipe=made)
            panels.append(_panel(view, f"{view.label}, {view.metric}.", place, primary=False))
    others = [] if all_metrics else list(surface_view.unfitted(here))
    benchmarks, trials = summary_tables.scores(here[here.learning_rate.notna()])
    heading = f"Training loss, {title(advice.stage, advice.arm)}"
    curves = training_curves(heading, _read_curves(source, here))
    return GridPage(
        id=f"{place.prefix}{safe(advice.name)}",
        title=title(advice.stage, advice.arm),
        answered=answered,
        advice=advice,
        panels=panels,
        figures_embedded=len(panels) <= EMBEDDED,
        surfaces=[panel.record for panel in panels] + [_unfitted(view) for view in others],
        curves=None if curves is None else plain(curves),
        chosen=evidence.chosen(advice.fits),
        descriptions=evidence.descriptions(advice.fits),
        noise_scale=noise,
        recipe=made,
        noise=[(task(fit.cells.benchmark).label, fit.cells.noise_source) for fit in advice.fits],
        before=before,
        benchmarks=benchmarks,
        trials=summary_tables.shown(trials),
        trials_in_all=len(trials),
        counts=pd.Series([trial["status"] for trial in trials]).value_counts().to_dict(),
        decontaminated=decontaminated,
        confounds=confounds,
    )


def stage_confounds(advice: Advice, source: Source, every: list[Advice]) -> Confounds | None:
    """What moves with the ratio in a stage, over all its arms, beside the first of them."""
    arms = [answer for answer in every if answer.stage == advice.stage]
    if arms[0] is not advice:
        return None
    answers = [answer for arm in arms for answer in arm.answers.benchmarks.values()]
    fits = [fit for arm in arms for fit in arm.fits]
    return confounds(source.frame, advice.stage, fits, answers)


def _read_curves(source: Source, rows: pd.DataFrame) -> list[TrainingCurve]:
    """Training curves, one per trial of one grid; `rows` are the grid's. A table has none."""
    if source.folder is None:
        return []
    trials = rows.drop_duplicates("key").set_index("key")
    most = points_per_curve(len(trials))
    curves = []
    for folder, trial in run_folder.trials(source.folder):
        if trial["key"] not in trials.index:
            continue
        row = trials.loc[trial["key"]]
        if pd.isna(row.learning_rate) or pd.isna(row.batch_size):
            continue
        log = training_log.records(folder, most)
        if len(log) < 2:
            continue
        tokens, loss = curve_points(log)
        seed = None if pd.isna(row.seed) else int(row.seed)
        curves.append(
            TrainingCurve(
                float(row.learning_rate), int(row.batch_size), seed, str(row.status), tokens, loss
            )
        )
    return curves


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


def _optimum_sentence(fit: Fit, way: Direction | None) -> str:
    """What the contour says of the best setting over both axes, never against what the batch sizes
    at their own best rates say (`way`)."""
    label = task(fit.cells.benchmark).label
    if fit.status is FitStatus.IDENTIFIED and fit.optimum and fit.low and fit.high:
        x, y, ratio = fit.optimum
        text = (
            f"{label}: over both axes the best setting is near learning rate {rate(2**x)} with "
            f"batch size {max(round(2**y), 1)}, LR/BS {rate(2**ratio)} ({rate(2**fit.low)} to "
            f"{rate(2**fit.high)})."
        )
        if way is None or way.verdict is not Batch.INTERIOR:
            text += " The batch sizes, each at its own best rate, do not confirm that size."
    elif min(fit.cells.table.x.nunique(), fit.cells.table.y.nunique()) < 2:
        text = f"{label}."
    else:
        text = f"{label}: no single best setting inside both axes ({fit.reason})."
    return f"{text} {contour.outlier_note(surface_view.fitted(fit))}".strip()
