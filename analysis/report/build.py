"""Run folders or tables -> report/index.html, recommendations.json, figures and the data.

Several sources make a comparison. The same input gives the same bytes.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.advice.advise import Advice, advise
from analysis.audit import tables as audit
from analysis.compare import compare_paper, compare_runs
from analysis.compare.paper_text import as_text
from analysis.compare.setting_axes import setting_axes
from analysis.compare.source import Source, distinct, load
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.report import axis_section, recommendations, render, run_facts, summary_tables
from analysis.report.answered import answer
from analysis.report.contaminated import without_leaks
from analysis.report.page import ReportPage, RunPage, Singles
from analysis.report.section import Place, section, stage_confounds
from analysis.report.terminal import RECOMMENDATIONS
from analysis.tables import atomic
from analysis.tables import load as results
from analysis.tables.options import ReadOptions
from analysis.tables.records import run_table
from analysis.text import safe

AGAINST = "against.txt"
"""The published tables beside ours, for a terminal."""


def write(
    paths: Path | str | Sequence[Path | str],
    out: Path | str | None = None,
    options: ReadOptions | None = None,
    all_metrics: bool = False,
    weights: Mapping[str, float] | None = None,
    beside: str | None = None,
) -> Path:
    """Rebuild the results of run folders (or read tables) and write one report of them.

    Returns the path of index.html: by default in RUN_DIR/report, or in NAME-report beside a
    table, or for several in a folder beside the first. `options` says how tables are read.
    `all_metrics` fits and draws every metric, not the primary ones alone. `weights` of benchmarks
    are those of the mix (`setting.equal_weights` where None). `beside` names published tables
    to stand on the page (`compare_paper.TABLES`), and beside it as text.

    Raises:
        ResultsError: a path is neither, what is there cannot be read, or a weight is of a benchmark
            that no grid has.
    """
    given = paths if not isinstance(paths, Path | str) else [paths]
    every = all_metrics or len(given) > 1  # what is primary in one may not be in another
    sources = distinct([load(path, options, every) for path in given])
    grids = {source.name: surfaces(source.frame, source.items) for source in sources}
    _refuse_unknown(
        weights or {}, {grid_cells.benchmark for cells in grids.values() for grid_cells in cells}
    )
    tables = (
        {source.name: compare_paper.tables(source, beside) for source in sources} if beside else {}
    )
    folder = Path(out) if out else _place(Path(given[0]), sources)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    advice = {
        source.name: advise([fit(grid) for grid in grids[source.name]], weights, source.frame)
        for source in sources
    }
    several = len(sources) > 1
    runs = [
        _run(
            source,
            advice[source.name],
            Place(folder, f"{safe(source.name)}-" if several else ""),
            all_metrics,
            tables.get(source.name, []),
        )
        for source in sources
    ]
    comparison = compare_runs.compare(
        {source.name: (source, advice[source.name]) for source in sources}
    )
    _write(folder / RECOMMENDATIONS, render.as_json(_records(runs, comparison)))
    if tables:
        texts = [f"{name}\n\n{as_text(table)}\n" for name, table in tables.items()]
        _write(folder / AGAINST, "\n".join(texts))
    name = " against ".join(source.name for source in sources)
    page = ReportPage(name, several, comparison, runs)
    index = folder / "index.html"
    _write(index, render.render("report", page._asdict()))
    for source in sources:
        for note in source.notes:
            print(f"{source.name}: {note}")
    return index


def answers_so_far(run_dir: Path) -> dict[str, Any] | None:
    """The content of recommendations.json for the scores that a run has now; writes nothing. None
    where no stage has a grid with scores.

    Raises:
        ResultsError: the records cannot be read or do not belong together.
    """
    frame = results.read(run_dir)
    source = Source(run_dir.name, frame, run_dir, run_table.items(run_dir, frame), {})
    cells = surfaces(frame, source.items)
    grids = {}
    for one in advise([fit(each) for each in cells], None, frame):
        here = frame.loc[(frame.stage == one.stage) & (frame.arm == one.arm)]
        grids[one.name] = recommendations.grid_record(answer(one, source, here), one)
    return recommendations.document(grids) if grids else None


def _records(runs: list[RunPage], comparison: compare_runs.Comparison) -> dict[str, Any]:
    """The content of recommendations.json."""
    documents = {
        run.name: recommendations.document(
            {
                grid.advice.name: recommendations.grid_record(grid.answered, grid.advice)
                for grid in run.grids
            }
        )
        | ({"setting_axes": run.axes_record} if run.axes_record else {})
        | ({"reading": run.reading} if run.reading else {})
        for run in runs
    }
    if len(runs) == 1:
        return documents[runs[0].name]
    return {"runs": documents, "comparison": comparison.as_json()}


def _write(path: Path, text: str) -> None:
    atomic.replace(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def _refuse_unknown(weights: Mapping[str, float], known: set[str]) -> None:
    """
    Raises:
        ResultsError: a weight is of a benchmark that is in no grid; names it and those that are.
    """
    unknown = [name for name in weights if name not in known]
    if unknown:
        raise results.ResultsError(
            f"--weights: no grid has scores of {', '.join(unknown)}; benchmarks of these grids: "
            f"{', '.join(sorted(known)) or 'none'}"
        )


def _place(first: Path, sources: Sequence[Source]) -> Path:
    if len(sources) > 1:
        return first.parent / "-against-".join(safe(source.name) for source in sources)
    if sources[0].folder is not None:
        return first / "report"
    return first.parent / f"{safe(sources[0].name)}-report"  # tables of one folder have one each


def write_audit(records_folder: Path) -> Path:
    """The page of a folder of audit records, beside them; returns its path."""
    audited = audit.read(records_folder)
    assert audited is not None, "an audit leaves records"
    return _write_audit(audited, "", records_folder, "index.html", ".")


def _write_audit(audited: audit.Audit, name: str, folder: Path, file: str, records_at: str) -> Path:
    path = folder / file
    context = {"name": name, "records_at": records_at, "tokens": audit.TOKENS}
    _write(path, render.render("audit", audited._asdict() | context))
    return path


def _run(
    source: Source,
    advice: list[Advice],
    place: Place,
    all_metrics: bool,
    published_tables: Sequence[compare_paper.Beside],
) -> RunPage:
    """Everything the page says about one source; its audit has a page of its own beside it."""
    folder, prefix = place.folder, place.prefix
    audited, clean = source.audited, source.without_leaks()
    data, clean_data = f"{prefix}data.csv", f"{prefix}without_contaminated.csv"
    audit_page = f"{prefix}audit.html"
    if audited is not None and source.folder is not None:
        records_at = os.path.relpath(source.folder / audit.FOLDER, folder)
        _write_audit(audited, source.name, folder, audit_page, records_at)
    if clean is not None:
        clean.scores.to_csv(folder / clean_data, index=False)
    source.frame.to_csv(folder / data, index=False)
    axes = setting_axes(source, advice)
    return RunPage(
        name=source.name,
        data=data,
        axes=[axis_section.axis_section(axis, place) for axis in axes],
        axes_record=[axis_section.as_json(axis) for axis in axes],
        facts=run_facts.facts(source),
        progress=run_facts.progress(source),
        grids=[
            section(
                stage_advice,
                source,
                place,
                all_metrics,
                without_leaks(stage_advice, clean),
                stage_confounds(stage_advice, source, advice),
            )
            for stage_advice in advice
        ],
        singles=_singles(source.frame, advice),
        audited=audited,
        audit_page=audit_page,
        without_contaminated=clean,
        without_contaminated_data=clean_data,
        published_tables=published_tables,
        reading=source.notes,
    )


def _singles(frame: pd.DataFrame, advice: list[Advice]) -> Singles:
    """Trials outside every grid: the base model, a pretraining, a chain's single stage."""
    gridded = {(stage_advice.stage, stage_advice.arm) for stage_advice in advice}
    outside = [pair not in gridded for pair in zip(frame.stage, frame.arm, strict=True)]
    benchmarks, trials = summary_tables.scores(frame.loc[outside])
    shown = summary_tables.shown(trials)
    return Singles(benchmarks, shown, len(trials))
