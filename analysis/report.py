"""Run folders or tables -> report/index.html, recommendations.json, figures and the data.

    python -m analysis.report runs/quickstart
    python -m analysis.report results.csv --out report
    python -m analysis.report wandb_export.csv --where project=smoltulu
    python -m analysis.report runs/small runs/large published:smoltulu

The page is one file that opens from disk with no network. Several sources make a comparison. Same
input, same bytes.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis import (
    audit,
    compare,
    evidence,
    explorer,
    ink,
    leaks,
    page,
    plots,
    recommend,
    references,
    results,
    tables,
)
from analysis.cells import Cells, surfaces
from analysis.confounds import Confounds, confounds
from analysis.contour_figure import draw_contour
from analysis.next_grid import next_grid
from analysis.ratio_figure import draw_ratio
from analysis.recommend import Advice, advise, headline
from analysis.source import Source, distinct, load
from analysis.surface import Fit, fit
from analysis.tasks import task
from analysis.words import rate, title

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


def write(
    paths: Path | str | Sequence[Path | str],
    out: Path | str | None = None,
    where: Mapping[str, str] | None = None,
    all_metrics: bool = False,
) -> Path:
    """Rebuild the results of run folders (or read tables) and write one report of them.

    Returns the path of index.html: by default in RUN_DIR/report, or beside a table, or for several
    in a folder beside the first. `where` keeps the rows whose columns have the values given.
    `all_metrics` fits and draws every metric, not the primary ones alone.

    Raises:
        ResultsError: a path is neither, or what is there cannot be read.
    """
    several = paths if not isinstance(paths, Path | str) else [paths]
    sources = distinct([load(path, where) for path in several])
    folder = Path(out) if out else _place(Path(several[0]), sources)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    advice = {
        source.name: advise(fit(cells) for cells in surfaces(source.frame, source.items))
        for source in sources
    }
    found = compare.differences(
        {name: [one for grid in grids for one in grid.fits] for name, grids in advice.items()}
    )
    context = {
        "name": " against ".join(source.name for source in sources),
        "several": len(sources) > 1,
        "differences": found,
        "compared": compare.headline(found),
        "runs": [
            _run(source, advice[source.name], folder, len(sources) > 1, all_metrics)
            for source in sources
        ],
    }
    records = {name: recommend.as_json(grids) for name, grids in advice.items()}
    told: Any = records[sources[0].name]
    if len(sources) > 1:
        told = {"runs": records, "comparison": compare.as_json(found)}
    (folder / "recommendations.json").write_text(page.as_json(told))
    index = folder / "index.html"
    text = page.render("report", context)
    results.replace(index, lambda aside: aside.write_text(text, encoding="utf-8"))
    return index


def _place(first: Path, sources: Sequence[Source]) -> Path:
    if len(sources) > 1:
        return first.parent / "-against-".join(_safe(source.name) for source in sources)
    return (first if sources[0].folder is not None else first.parent) / "report"


def write_audit(records_folder: Path) -> Path:
    """The page of a folder of audit records, beside them; returns its path."""
    found = audit.read(records_folder)
    assert found is not None, "an audit leaves records"
    return _write_audit(found, "", records_folder, "index.html", ".")


def _write_audit(
    found: dict[str, Any], name: str, folder: Path, file: str, records_at: str
) -> Path:
    path = folder / file
    text = page.render("audit", found | {"name": name, "records_at": records_at})
    results.replace(path, lambda aside: aside.write_text(text, encoding="utf-8"))
    return path


def _run(
    source: Source, advice: list[Advice], folder: Path, several: bool, all_metrics: bool
) -> dict[str, Any]:
    """Everything the page says about one source; audits have a page of their own beside a report
    on one run alone."""
    audited = None if several else source.audited
    clean = None if several else source.without_leaks()
    if audited is not None:
        _write_audit(audited, source.name, folder, "audit.html", "../audit")
    if clean is not None:
        clean.scores.to_csv(folder / "without_contaminated.csv", index=False)
    prefix = f"{_safe(source.name)}-" if several else ""
    source.frame.to_csv(folder / f"{prefix}data.csv", index=False)
    return {
        "name": source.name,
        "data": f"{prefix}data.csv",
        "manifest": _facts(source.manifest),
        "progress": _progress(source),
        "grids": [
            _grid(one, source, folder, prefix, all_metrics)
            | _leaks(one, clean)
            | {"confounds": _confounds(one, source, advice)}
            for one in advice
        ],
        "singles": _singles(source.frame, advice),
        "audited": audited,
        "clean": clean,
    }


def _leaks(advice: Advice, clean: leaks.Clean | None) -> dict[str, Any]:
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
        "leaks": leaks.summary(scores),
        "changes": leaks.changes(advice, after[0], touched) if after else [],
    }


def _grid(
    advice: Advice, source: Source, folder: Path, prefix: str, all_metrics: bool
) -> dict[str, Any]:
    frame = source.frame
    here = frame.loc[(frame.stage == advice.stage) & (frame.arm == advice.arm)]
    before = tables.before_training(frame, advice.stage)
    noise = references.noise_scale(here)
    benchmarks, trials = tables.scores(here)
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
    others = [] if all_metrics else list(explorer.measured(here))
    return {
        "id": f"{prefix}{_safe(advice.name)}",
        "title": title(advice.stage, advice.arm),
        "headline": headline(advice),
        "cards": list((advice.task_types or advice.benchmarks).values()),
        "next": next_grid(advice.fits, here, source.grid_file),
        "advice": advice,
        "axis": _ratio_axis(cells),
        "panels": panels,
        "embed": len(panels) <= EMBEDDED,
        "surfaces": [panel.record for panel in panels] + others,
        "optima": evidence.optima(advice.fits),
        "rivals": evidence.rivals(advice.fits),
        "noise_scale": noise,
        "ends": [end for one in cells for end in tables.ends(one)],
        "noise": [(task(one.benchmark).label, one.noise_source) for one in cells],
        "before": before,
        "benchmarks": benchmarks,
        "trials": trials,
        "counts": pd.Series([trial["status"] for trial in trials]).value_counts().to_dict(),
    }


def _confounds(advice: Advice, source: Source, every: list[Advice]) -> Confounds | None:
    """What moves with the ratio in a stage, over all its arms, beside the first of them."""
    arms = [one for one in every if one.stage == advice.stage]
    if arms[0] is not advice:
        return None
    return confounds(source.frame, advice.stage, [fit for one in arms for fit in one.fits])


def _panel(
    one: Fit,
    before: float | None,
    noise: references.NoiseScale | None,
    advice: Advice | None,
    folder: Path,
    prefix: str,
) -> Panel:
    """`advice` is None for a metric that is not its benchmark's primary one."""
    cells = one.cells
    parts = [cells.stage, cells.arm, cells.benchmark, "" if advice else cells.metric]
    name = prefix + "-".join(_safe(part) for part in parts if part)
    contour, ratio = plots.contour_info(one, noise), plots.ratio_info(one, before)
    drawn = {}
    for kind, table, figure in (
        ("contour", contour.cells, draw_contour(contour)),
        ("ratio", ratio.points, draw_ratio(ratio)),
    ):
        path = folder / "figures" / f"{name}-{kind}"
        drawn[kind] = Markup(ink.save(figure, path))
        table.to_csv(path.with_name(f"{path.name}.csv"), index=False)
    label = task(cells.benchmark).label
    advised = advice.benchmarks.get(cells.benchmark) if advice else None
    sentence = advised.sentence if advised else f"{label}, {cells.metric}: {one.reason}."
    if advised and advised.ratio and advised.low and advised.high:
        interval = f"{rate(advised.low)} to {rate(advised.high)}"
        sentence = f"{label}: best LR/BS near {rate(advised.ratio)}, 95 % interval {interval}."
    record = explorer.fitted(one, contour, ratio, sentence, name)
    return Panel(label, drawn["contour"], drawn["ratio"], name, record)


def _safe(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in text)


def _ratio_axis(grids: list[Cells]) -> dict[str, float]:
    """Ends of the log2 ratio axis shared by a grid's intervals."""
    ratios = np.concatenate([(cells.table.x - cells.table.y).to_numpy() for cells in grids])
    return {"low": float(ratios.min()), "high": float(ratios.max())}


def _singles(frame: pd.DataFrame, advice: list[Advice]) -> dict[str, Any]:
    """Trials outside every grid: the base model, a pretraining, a chain's single stage."""
    gridded = {(one.stage, one.arm) for one in advice}
    outside = [pair not in gridded for pair in zip(frame.stage, frame.arm, strict=True)]
    benchmarks, trials = tables.scores(frame.loc[outside])
    return {"benchmarks": benchmarks, "trials": trials}


def _progress(source: Source) -> tables.Progress | None:
    if source.folder is None:
        return None
    stages = source.manifest.get("stages", {})
    wanted = {name: len(stage.get("evaluations", [])) for name, stage in stages.items()}
    return tables.progress(source.folder, source.frame, wanted)


def _facts(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """The manifest as label and text, without what the page shows elsewhere."""
    facts = []
    for name, value in manifest.items():
        if name in ("name", "stages") or value in (None, "", {}, []):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} {text}" for key, text in value.items())
        facts.append((name.replace("_", " "), str(value)))
    return facts


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not COLUMN=VALUE")
    return name, value


def main(arguments: list[str] | None = None) -> int:
    """The command line; 2 when a path cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="RUN_DIR|TABLE|published:NAME",
        help="run folders, .csv or .parquet tables, or published:smoltulu; several are compared",
    )
    parser.add_argument("--out", type=Path, help="folder of the report (default: RUN_DIR/report)")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        type=_condition,
        metavar="COLUMN=VALUE",
        help="only the rows with this value; may be given several times",
    )
    parser.add_argument(
        "--all-metrics", action="store_true", help="fit and draw every metric, not the primary ones"
    )
    given = parser.parse_args(arguments)
    try:
        print(write(given.sources, given.out, dict(given.where), given.all_metrics))
    except results.ResultsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
