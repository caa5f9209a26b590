"""A third axis on the page: small multiples, a table of its values, and sentences."""

from typing import Any

import pandas as pd

from analysis.compare.axis_places import named
from analysis.compare.setting_axes import AtValue, OnBenchmark, SettingAxis
from analysis.figures import multiples, surface_view
from analysis.fit.unit import unit_of
from analysis.report.page import AxisBenchmark, AxisPage, AxisRow
from analysis.report.section import Place
from analysis.report.words import axis_sentences
from analysis.report.words.sentences import rate_text
from analysis.text import decimal_places, listed, probability, safe, signed, title


def axis_section(axis: SettingAxis, place: Place) -> AxisPage:
    """Everything the page says about one axis; its figures are written on the way."""
    held = f", {axis.held}" if axis.held else ""
    return AxisPage(
        id=f"{place.prefix}axis-{safe(axis.id)}",
        title=f"{title(axis.stage)} across {_what(axis)}{held}",
        name=axis.name,
        notes=axis_sentences.notes(axis),
        benchmarks=[_benchmark(axis, on, place) for on in axis.benchmarks],
    )


def _what(axis: SettingAxis) -> str:
    if len(axis.values) > axis_sentences.FEW:
        count = len(axis.values)
        return f"{count} arms" if axis.name == "arm" else f"{count} values of {axis.name}"
    values = listed(axis.values)
    return f"the arms {values}" if axis.name == "arm" else f"{axis.name} ({values})"


def _benchmark(axis: SettingAxis, on: OnBenchmark, place: Place) -> AxisBenchmark:
    views = [surface_view.fitted(one.fit, surface_view.best_rates(one.rates)) for one in on.values]
    names = [named(axis.name, one.value) for one in on.values]
    heading = f"{on.label}, {title(axis.stage)}{f' ({axis.held})' if axis.held else ''}"
    chart = multiples.multiples(heading, names, views)
    cells = pd.concat(
        [view.cells.assign(setting=name) for name, view in zip(names, views, strict=True)]
    )
    file = f"{safe(axis.id)}-{safe(on.benchmark)}"
    figure = place.save(file, "multiples", chart, cells)
    sizes = sorted({at.batch_size for one in on.values for at in one.rates})
    return AxisBenchmark(
        label=on.label,
        metric=on.metric,
        figure=figure,
        file=f"{place.prefix}{file}",
        first=names[0],
        batch_sizes=sizes,
        rows=[_row(on, one, sizes) for one in on.values],
        sentences=axis_sentences.sentences(axis, on),
    )


def _row(on: OnBenchmark, one: AtValue, sizes: list[int]) -> AxisRow:
    by_size = {at.batch_size: at for at in one.rates}
    shift = difference = "-"
    if one.shift is not None:
        middle, low, high = one.shift
        shift = f"{signed(middle)} ({signed(low)} to {signed(high)})"
    if one.difference is not None:
        unit = unit_of(one.fit.cells)
        difference = unit.signed(one.difference.difference.gain, one.difference.difference.stderr)
    places = decimal_places((one.high - one.low) / 4)
    best, low, high = (f"{value:.{places}f}" for value in (one.best, one.low, one.high))
    rates = [rate_text(by_size.get(size)) for size in sizes]
    score = f"{best} ({low} to {high})"
    return AxisRow(one.value, score, probability(one.p_best), rates, shift, difference)


def as_json(axis: SettingAxis) -> dict[str, Any]:
    """For recommendations.json."""
    return {
        "stage": axis.stage,
        "setting": axis.name,
        "held": axis.held,
        "benchmarks": {
            on.benchmark: {
                "metric": on.metric,
                "as_good_as_the_best": list(on.as_good),
                "best_learning_rate_moves": on.moves,
                "octaves_per_doubling": None if on.slope is None else on.slope._asdict(),
                "values": {one.value: _value(one) for one in on.values},
                "left_out": list(on.left_out),
                "sentences": axis_sentences.sentences(axis, on),
            }
            for on in axis.benchmarks
        },
        "notes": axis_sentences.notes(axis),
    }


def _value(one: AtValue) -> dict[str, Any]:
    ends = ("mean", "low", "high")
    difference = None if one.difference is None else one.difference.difference
    return {
        "arm": one.arm,
        "best_score": dict(zip(ends, (one.best, one.low, one.high), strict=True)),
        "p_best": one.p_best,
        "learning_rates": [at._asdict() for at in one.rates],
        "octaves_from_the_first": None
        if one.shift is None
        else dict(zip(ends, one.shift, strict=True)),
        "score_difference_from_the_first": None
        if difference is None
        else difference._asdict() | {"interval": difference.interval},
    }
