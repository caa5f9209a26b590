"""Run folders or tables -> report/index.html, recommendations.json, figures and the data.

    python -m analysis.report runs/quickstart
    python -m analysis.report results.csv --out report
    python -m analysis.report wandb_export.csv --where project=smoltulu
    python -m analysis.report runs/small runs/large published:smoltulu
    python -m analysis.report runs/lr_bs --weights gsm8k=2,arc=1 --against smoltulu

The page is one file that opens from disk with no network. Several sources make a comparison. Same
input, same bytes.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.advice import compare_paper, compare_runs, recommend
from analysis.advice.recommend import Advice, advise
from analysis.advice.source import Source, distinct, load
from analysis.audit import tables as audit
from analysis.fit.cells import surfaces
from analysis.fit.surface import fit
from analysis.report import render, summary_tables
from analysis.report.section import section, stage_confounds, without_leaks
from analysis.tables import load as results
from analysis.tables import published
from analysis.text import safe

AGAINST = "against.txt"
"""The published tables beside ours, for a terminal."""


def write(
    paths: Path | str | Sequence[Path | str],
    out: Path | str | None = None,
    where: Mapping[str, str] | None = None,
    all_metrics: bool = False,
    weights: Mapping[str, float] | None = None,
    beside: str | None = None,
) -> Path:
    """Rebuild the results of run folders (or read tables) and write one report of them.

    Returns the path of index.html: by default in RUN_DIR/report, or beside a table, or for several
    in a folder beside the first. `where` keeps the rows whose columns have the values given.
    `all_metrics` fits and draws every metric, not the primary ones alone. `weights` of benchmarks
    are those of the mix (`compromise.equal_weights` where None). `beside` names published tables
    to stand on the page (`against.TABLES`), and beside it as text.

    Raises:
        ResultsError: a path is neither, what is there cannot be read, or a weight is of a benchmark
            that no grid has.
    """
    several = paths if not isinstance(paths, Path | str) else [paths]
    sources = distinct([load(path, where) for path in several])
    gridded = {source.name: surfaces(source.frame, source.items) for source in sources}
    _refuse_strangers(weights or {}, {one.benchmark for them in gridded.values() for one in them})
    found_beside = (
        {one.name: compare_paper.tables(one, beside) for one in sources} if beside else {}
    )
    folder = Path(out) if out else _place(Path(several[0]), sources)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    advice = {
        source.name: advise([fit(cells) for cells in gridded[source.name]], weights, source.frame)
        for source in sources
    }
    found = compare_runs.differences(
        {name: [one for grid in grids for one in grid.fits] for name, grids in advice.items()}
    )
    context = {
        "name": " against ".join(source.name for source in sources),
        "several": len(sources) > 1,
        "differences": found,
        "compared": compare_runs.headline(found),
        "runs": [
            _run(source, advice[source.name], folder, len(sources) > 1, all_metrics)
            | {"beside": found_beside.get(source.name, [])}
            for source in sources
        ],
    }
    records = {
        source.name: recommend.as_json(
            advice[source.name],
            {grid["advice"].name: grid["next"] for grid in run["grids"] if grid["next"]},
        )
        for source, run in zip(sources, context["runs"], strict=True)
    }
    told: Any = records[sources[0].name]
    if len(sources) > 1:
        told = {"runs": records, "comparison": compare_runs.as_json(found)}
    _write(folder / "recommendations.json", render.as_json(told))
    index = folder / "index.html"
    text = render.render("report", context)
    _write(index, text)
    if found_beside:
        texts = [
            f"{name}\n\n{compare_paper.as_text(them)}\n" for name, them in found_beside.items()
        ]
        _write(folder / AGAINST, "\n".join(texts))
    return index


def _write(path: Path, text: str) -> None:
    results.replace(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def _refuse_strangers(weights: Mapping[str, float], known: set[str]) -> None:
    """Weights of benchmarks that are in no grid.

    Raises:
        ResultsError: naming them and those that there are.
    """
    strangers = [name for name in weights if name not in known]
    if strangers:
        there = ", ".join(sorted(known)) or "none"
        raise results.ResultsError(
            f"--weights: no grid has scores of {', '.join(strangers)}; benchmarks of these grids: "
            f"{there}"
        )


def _place(first: Path, sources: Sequence[Source]) -> Path:
    if len(sources) > 1:
        return first.parent / "-against-".join(safe(source.name) for source in sources)
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
    text = render.render("audit", found | {"name": name, "records_at": records_at})
    _write(path, text)
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
    return {
        "name": source.name,
        "data": f"{prefix}data.csv",
        "manifest": _facts(source.manifest),
        "progress": _progress(source),
        "grids": [
            section(one, source, folder, prefix, all_metrics)
            | without_leaks(one, clean)
            | {"confounds": stage_confounds(one, source, advice)}
            for one in advice
        ],
        "singles": _singles(source.frame, advice),
        "audited": audited,
        "audit_page": audit_page,
        "clean": clean,
        "clean_data": clean_data,
    }


def _singles(frame: pd.DataFrame, advice: list[Advice]) -> dict[str, Any]:
    """Trials outside every grid: the base model, a pretraining, a chain's single stage."""
    gridded = {(one.stage, one.arm) for one in advice}
    outside = [pair not in gridded for pair in zip(frame.stage, frame.arm, strict=True)]
    benchmarks, trials = summary_tables.scores(frame.loc[outside])
    return {"benchmarks": benchmarks, "trials": trials}


def _progress(source: Source) -> summary_tables.Progress | None:
    if source.folder is None:
        return None
    stages = source.manifest.get("stages", {})
    wanted = {name: len(stage.get("evaluations", [])) for name, stage in stages.items()}
    return summary_tables.progress(source.folder, source.frame, wanted)


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


def _weights(text: str) -> dict[str, float]:
    """gsm8k=2,arc=1"""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if not (name.strip() and equals and 0 <= weight < float("inf")):
            raise argparse.ArgumentTypeError(
                f"'{part}' is not BENCHMARK=WEIGHT with a weight of 0 or more"
            )
        found[name.strip()] = weight
    if not sum(found.values()) > 0:
        raise argparse.ArgumentTypeError(f"'{text}': at least one weight has to be above 0")
    return found


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
    parser.add_argument(
        "--weights",
        type=_weights,
        metavar="BENCHMARK=WEIGHT,...",
        help="of the mix for which one ratio is recommended; benchmarks not named have none "
        "(default: task types alike, benchmarks of a type alike)",
    )
    parser.add_argument(
        "--against",
        choices=published.NAMES,
        help="set published tables beside the runs, with differences and intervals",
    )
    given = parser.parse_args(arguments)
    try:
        index = write(
            given.sources,
            given.out,
            dict(given.where),
            given.all_metrics,
            given.weights,
            given.against,
        )
        if given.against:
            print((index.parent / AGAINST).read_text(encoding="utf-8"))
        print(index)
    except results.ResultsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
