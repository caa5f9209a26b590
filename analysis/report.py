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
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import audit, compare, page, recommend, results, tables
from analysis.cells import surfaces
from analysis.recommend import Advice, advise
from analysis.section import section, stage_confounds, without_leaks
from analysis.source import Source, distinct, load
from analysis.surface import fit
from analysis.words import safe


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
    prefix = f"{safe(source.name)}-" if several else ""
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
        "clean": clean,
    }


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
