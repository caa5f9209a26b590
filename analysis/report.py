"""A run folder or a table -> report/index.html, recommendations.json and figures.

    python -m analysis.report runs/quickstart
    python -m analysis.report results.csv --out report

The page is one file that opens from disk with no network. Same input, same bytes.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis import audit, ink, leaks, plots, records, results, tables
from analysis.cells import Cells, surfaces
from analysis.recommend import Advice, advise, as_json, headline
from analysis.surface import Fit, fit
from analysis.tasks import task
from analysis.words import number, probability, rate, title


@dataclass(frozen=True)
class Panel:
    """One benchmark of one grid: its figures, as SVG text to embed and by the name of its files."""

    benchmark: str
    label: str
    contour: Markup
    ratio: Markup
    contour_name: str
    ratio_name: str


def write(run_dir: Path | str, out: Path | str | None = None) -> Path:
    """Rebuild the results of a run folder (or read a table) and write its report.

    Returns the path of index.html, by default in RUN_DIR/report, or beside a table.

    Raises:
        ResultsError: the path is neither, or what is there cannot be read.
    """
    source = Path(run_dir)
    is_run = source.is_dir()
    frame = results.write(source) if is_run else results.read(source)
    items = results.items(source) if is_run else None
    manifest = records.manifest(source) if is_run else {}
    folder = Path(out) if out else (source if is_run else source.parent) / "report"
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    advice = advise(fit(cells) for cells in surfaces(frame, items))
    audited = audit.read(source / audit.FOLDER) if is_run else None
    clean = _without_leaks(source, frame, items, audited)
    if audited is not None:
        _write_audit(audited, manifest.get("name") or source.stem, folder, "audit.html", "../audit")
    if clean is not None:
        clean.scores.to_csv(folder / "without_contaminated.csv", index=False)
    context = {
        "name": manifest.get("name") or source.stem,
        "manifest": _facts(manifest),
        "progress": _progress(source, frame, manifest) if is_run else None,
        "grids": [_grid(one, frame, folder) | _leaks(one, clean) for one in advice],
        "singles": _singles(frame, advice),
        "audited": audited,
        "clean": clean,
    }
    text = json.dumps(as_json(advice), indent=2, allow_nan=False, default=_scalar)
    (folder / "recommendations.json").write_text(text + "\n")
    index = folder / "index.html"
    results.replace(index, lambda aside: aside.write_text(_template("report").render(context)))
    return index


def write_audit(records_folder: Path) -> Path:
    """The page of a folder of audit records, beside them; returns its path."""
    found = audit.read(records_folder)
    assert found is not None, "an audit leaves records"
    return _write_audit(found, "", records_folder, "index.html", ".")


def _write_audit(
    found: dict[str, Any], name: str, folder: Path, page: str, records_at: str
) -> Path:
    path = folder / page
    text = _template("audit").render(found | {"name": name, "records_at": records_at})
    results.replace(path, lambda aside: aside.write_text(text, encoding="utf-8"))
    return path


def _without_leaks(
    source: Path,
    frame: pd.DataFrame,
    items: pd.DataFrame | None,
    audited: dict[str, Any] | None,
) -> leaks.Clean | None:
    """The tables without contaminated items; None where no audit looked for any."""
    if items is None or audited is None or "contamination" not in audited:
        return None
    pairs = audit.contaminated(source / audit.FOLDER)
    stages = audited["contamination"].get("stages", {})
    return leaks.without(frame, items, leaks.leaked(pairs, stages))


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


def _grid(advice: Advice, frame: pd.DataFrame, folder: Path) -> dict[str, Any]:
    here = frame.loc[(frame.stage == advice.stage) & (frame.arm == advice.arm)]
    before = tables.before_training(frame, advice.stage)
    benchmarks, trials = tables.scores(here)
    surfaces_here = [one.cells for one in advice.fits]
    return {
        "id": advice.name,
        "title": title(advice.stage, advice.arm),
        "headline": headline(advice),
        "cards": list((advice.task_types or advice.benchmarks).values()),
        "advice": advice,
        "axis": _ratio_axis(surfaces_here),
        "panels": [_panel(one, before.get(one.cells.benchmark), folder) for one in advice.fits],
        "ends": [end for cells in surfaces_here for end in tables.ends(cells)],
        "noise": [(task(c.benchmark).label, c.noise_source) for c in surfaces_here],
        "before": before,
        "benchmarks": benchmarks,
        "trials": trials,
        "counts": pd.Series([trial["status"] for trial in trials]).value_counts().to_dict(),
    }


def _panel(one: Fit, before: float | None, folder: Path) -> Panel:
    cells = one.cells
    parts = [cells.stage, cells.arm, cells.benchmark]
    name = "-".join(_safe(part) for part in parts if part)
    contour, ratio = plots.contour_info(one), plots.ratio_info(one, before)
    drawn = {}
    for kind, table, figure in (
        ("contour", contour.cells, ink.settle(ink.draw_contour(contour))),
        ("ratio", ratio.points, ink.settle(ink.draw_ratio(ratio))),
    ):
        path = folder / "figures" / f"{name}-{kind}"
        path.with_name(path.name + ".png").write_bytes(ink.png(figure))
        table.to_csv(path.with_name(path.name + ".csv"), index=False)
        drawn[kind] = Markup(ink.svg(figure))
    return Panel(
        cells.benchmark,
        task(cells.benchmark).label,
        drawn["contour"],
        drawn["ratio"],
        f"{name}-contour",
        f"{name}-ratio",
    )


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


def _progress(
    run_dir: Path, frame: pd.DataFrame, manifest: dict[str, Any]
) -> tables.Progress | None:
    stages = manifest.get("stages", {})
    wanted = {name: len(stage.get("evaluations", [])) for name, stage in stages.items()}
    return tables.progress(run_dir, frame, wanted)


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


def _scalar(value: Any) -> Any:
    return value.item()


@cache
def _template(name: str) -> jinja2.Template:
    loader = jinja2.PackageLoader("analysis", "")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": number,
        "rate": rate,
        "title": title,
        "probability": probability,
        "label": lambda name: task(name).label,
        "percent": audit.percent,
    }
    environment.globals["log2"] = np.log2
    return environment.get_template(f"{name}.html.j2")


def main(arguments: list[str] | None = None) -> int:
    """The command line; 2 when the path cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m analysis.report", description=__doc__)
    parser.add_argument("source", metavar="RUN_DIR|results.csv", type=Path)
    parser.add_argument("--out", type=Path, help="folder of the report (default: RUN_DIR/report)")
    given = parser.parse_args(arguments)
    try:
        print(write(given.source, given.out))
    except results.ResultsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
