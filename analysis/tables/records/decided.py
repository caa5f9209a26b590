"""Why a run with `decide` chose no further cell, in events.jsonl of its folder."""

from pathlib import Path

from analysis.tables.records.run_folder import json_lines


def why_stopped(run_dir: Path) -> str:
    """In words; "" where it has chosen one since, or has not stopped."""
    path = run_dir / "events.jsonl"
    events = json_lines(path) if path.exists() else []
    last = [event for event in events if event.get("event") in ("chosen", "decided")][-1:]
    reasons = [event.get("reason", "") for event in last if event["event"] == "decided"]
    return "".join(reasons).removeprefix("decide: ")
