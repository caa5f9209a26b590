"""What the page says of a run as a whole: how far it is, what it cost, its versions and data."""

from typing import Any

from analysis.compare.source import Source
from analysis.report import summary_tables
from analysis.tables.errors import ResultsError
from analysis.tables.records.decided import read_decided
from analysis.tables.records.run_folder import load
from analysis.tables.records.screening import screened_stages
from analysis.text import counted

MANY_FACTS = 20
"""Entries of a part of the manifest; of more the page gives the number."""


def progress(source: Source) -> summary_tables.Progress | None:
    """How many planned trials have ended; None of a table."""
    if source.folder is None:
        return None
    stages = source.manifest.get("stages", {})
    evaluations = {name: len(stage.get("evaluations", [])) for name, stage in stages.items()}
    left_out = screened_stages(stages)
    return summary_tables.progress(source.folder, source.frame, evaluations, left_out.keys())


def facts(source: Source) -> list[tuple[str, str]]:
    """Label and text of each; of a table there are none."""
    return _of_manifest(source.manifest) + _cost(source) + _decided(source)


def _cost(source: Source) -> list[tuple[str, str]]:
    """What the run has cost so far, as `sweep/schedule/spending.py` leaves it."""
    path = source.folder / "cost.json" if source.folder is not None else None
    if path is None or not path.exists():
        return []
    record = load(path)
    words = record.get("words")
    if not isinstance(words, str):
        raise ResultsError(
            f"{path}: words: holds no text; delete it; what deleted trials have cost is then "
            "forgotten"
        )
    return [("used so far" if record.get("cost") is None else "cost so far", words)]


def _decided(source: Source) -> list[tuple[str, str]]:
    """What a run with `decide` has of its screening runs, and why it chooses no further cell, where
    it does not."""
    if source.folder is None:
        return []
    decided, facts = read_decided(source.folder), []
    if decided.screened:
        facts.append(("screening runs, in no answer", "; ".join(decided.screened)))
    if decided.chosen or decided.stop is not None:
        why = "" if decided.stop is None else f"; decide: {decided.stop.reason}"
        facts.append(("chosen as results came in", f"{counted(decided.chosen, 'trial')}{why}"))
    return facts


def _of_manifest(manifest: dict[str, Any]) -> list[tuple[str, str]]:
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
