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
from analysis.report import axis_section, records, render, summary_tables
from analysis.report.contaminated import without_leaks
from analysis.report.section import Place, answer, section, stage_confounds
from analysis.report.terminal import RECOMMENDATIONS
from analysis.tables import load as results
from analysis.tables.options import ReadOptions
from analysis.tables.records.run_folder import json_lines
from analysis.tables.records.run_folder import load as load_record
from analysis.tables.records.screening import screened_stages
from analysis.text import counted, safe

AGAINST = "against.txt"
"""The published tables beside ours, for a terminal."""

MANY_FACTS = 20
"""Entries of a part of the manifest; of more the page gives the number."""


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
        _run(source, advice[source.name], folder, several, all_metrics)
        | {"beside": tables.get(source.name, []), "reading": list(source.notes)}
        for source in sources
    ]
    comparison = compare_runs.compare(
        {source.name: (source, advice[source.name]) for source in sources}
    )
    _write(folder / RECOMMENDATIONS, render.as_json(_records(runs, comparison)))
    if tables:
        texts = [f"{name}\n\n{as_text(table)}\n" for name, table in tables.items()]
        _write(folder / AGAINST, "\n".join(texts))
    context = {
        "name": " against ".join(source.name for source in sources),
        "several": several,
        "comparison": comparison,
        "runs": runs,
    }
    index = folder / "index.html"
    _write(index, render.render("report", context))
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
    source = Source(run_dir.name, frame, run_dir, results.items(run_dir, frame), {})
    cells = surfaces(frame, source.items)
    grids = {}
    for one in advise([fit(each) for each in cells], None, frame):
        here = frame.loc[(frame.stage == one.stage) & (frame.arm == one.arm)]
        grids[one.name] = records.grid_record(answer(one, source, here), one)
    return records.document(grids) if grids else None


def _records(runs: list[dict[str, Any]], comparison: compare_runs.Comparison) -> dict[str, Any]:
    """The content of recommendations.json."""
    documents = {
        run["name"]: records.document(
            {
                grid["advice"].name: records.grid_record(grid["said"], grid["advice"])
                for grid in run["grids"]
            }
        )
        | ({"setting_axes": run["axes_record"]} if run["axes_record"] else {})
        | ({"reading": run["reading"]} if run["reading"] else {})
        for run in runs
    }
    if len(runs) == 1:
        return documents[runs[0]["name"]]
    return {"runs": documents, "comparison": comparison.as_json()}


def _write(path: Path, text: str) -> None:
    results.replace(path, lambda aside: aside.write_text(text, encoding="utf-8"))


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
    record = audit.read(records_folder)
    assert record is not None, "an audit leaves records"
    return _write_audit(record, "", records_folder, "index.html", ".")


def _write_audit(
    record: dict[str, Any], name: str, folder: Path, file: str, records_at: str
) -> Path:
    path = folder / file
    _write(path, render.render("audit", record | {"name": name, "records_at": records_at}))
    return path


def _run(
    source: Source, advice: list[Advice], folder: Path, several: bool, all_metrics: bool
) -> dict[str, Any]:
    """Everything the page says about one source; its audit has a page of its own beside it."""
    prefix = f"{safe(source.name)}-" if several else ""
    audited, clean = source.audited, source.without_leaks()
    audit_page, clean_data = f"{prefix}audit.html", f"{prefix}without_contaminated.csv"
    if audited is not None and source.folder is not None:
        records_at = os.path.relpath(source.folder / audit.FOLDER, folder)
        _write_audit(audited, source.name, folder, audit_page, records_at)
    if clean is not None:
        clean.scores.to_csv(folder / clean_data, index=False)
    source.frame.to_csv(folder / f"{prefix}data.csv", index=False)
    axes = setting_axes(source, advice)
    return {
        "name": source.name,
        "data": f"{prefix}data.csv",
        "axes": [axis_section.axis_section(axis, Place(folder, prefix)) for axis in axes],
        "axes_record": [axis_section.as_json(axis) for axis in axes],
        "manifest": _facts(source.manifest) + _cost(source) + _decided(source),
        "progress": _progress(source),
        "grids": [
            section(stage_advice, source, Place(folder, prefix), all_metrics)
            | without_leaks(stage_advice, clean)
            | {"confounds": stage_confounds(stage_advice, source, advice)}
            for stage_advice in advice
        ],
        "singles": _singles(source.frame, advice),
        "audited": audited,
        "audit_page": audit_page,
        "clean": clean,
        "clean_data": clean_data,
    }


def _singles(frame: pd.DataFrame, advice: list[Advice]) -> dict[str, Any]:
    """Trials outside every grid: the base model, a pretraining, a chain's single stage."""
    gridded = {(stage_advice.stage, stage_advice.arm) for stage_advice in advice}
    outside = [pair not in gridded for pair in zip(frame.stage, frame.arm, strict=True)]
    benchmarks, trials = summary_tables.scores(frame.loc[outside])
    shown = summary_tables.shown(trials)
    return {"benchmarks": benchmarks, "trials": shown, "trials_in_all": len(trials)}


def _progress(source: Source) -> summary_tables.Progress | None:
    if source.folder is None:
        return None
    stages = source.manifest.get("stages", {})
    evaluations = {name: len(stage.get("evaluations", [])) for name, stage in stages.items()}
    left_out = screened_stages(stages)
    return summary_tables.progress(source.folder, source.frame, evaluations, left_out.keys())


def _cost(source: Source) -> list[tuple[str, str]]:
    """What the run has cost so far, as `sweep/schedule/spending.py` leaves it."""
    path = source.folder / "cost.json" if source.folder is not None else None
    if path is None or not path.exists():
        return []
    record = load_record(path)
    words = record.get("words")
    if not isinstance(words, str):
        raise results.ResultsError(
            f"{path}: words: holds no text; delete it; what deleted trials have cost is then "
            "forgotten"
        )
    return [("used so far" if record.get("cost") is None else "cost so far", words)]


def _decided(source: Source) -> list[tuple[str, str]]:
    """What a run with `decide` has of its screening runs, and why it chose no further cell, as its
    last start left it."""
    path = source.folder / "events.jsonl" if source.folder is not None else None
    if path is None or not path.exists():
        return []
    told = ("chosen", "decided", "screened")
    events = [event for event in json_lines(path) if event.get("event") in told]
    screened = [event.get("reason", "") for event in events if event["event"] == "screened"]
    facts = [("screening runs, in no answer", "; ".join(screened))] if screened else []
    chosen = sum(event["event"] == "chosen" for event in events)
    why = [event["reason"] for event in events if event["event"] == "decided" and "reason" in event]
    if why:
        facts.append(("chosen as results came in", f"{counted(chosen, 'trial')}; {why[-1]}"))
    return facts


def _facts(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """The manifest as label and text, without what the page shows elsewhere."""
    facts = []
    for name, value in manifest.items():
        if name in ("name", "stages", "earlier_stages") or value in (None, "", {}, []):
            continue
        facts.append((name.replace("_", " "), _fact(value)))
    return facts


def _fact(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "; ".join(value)
    if isinstance(value, list) or (isinstance(value, dict) and len(value) > MANY_FACTS):
        return f"{counted(len(value), 'record')}, in manifest.json of the run folder"
    if isinstance(value, dict):
        return ", ".join(f"{key} {text}" for key, text in value.items())
    return str(value)
