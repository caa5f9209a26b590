"""What the page says of a run as a whole."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.compare.source import Source
from analysis.report.run_facts import facts

SPENT = {"event": "decided", "reason": "decide: the budget of 1 trial is spent"}


def chosen(key: str) -> dict[str, str]:
    return {"event": "chosen", "key": key}


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([chosen("a"), SPENT], "1 trial; decide: the budget of 1 trial is spent"),
        ([chosen("a"), SPENT, chosen("b")], "2 trials"),
        ([], None),
    ],
    ids=["stopped", "goes on", "decides nothing"],
)
def test_a_run_that_goes_on_is_not_said_to_have_stopped(
    events: list[dict[str, str]], said: str | None, tmp_path: Path
) -> None:
    lines = "".join(f"{json.dumps(event)}\n" for event in events)
    (tmp_path / "events.jsonl").write_text(lines, encoding="utf-8")
    told = dict(facts(Source("mine", pd.DataFrame(), tmp_path, None, {})))
    assert told.get("chosen as results came in") == said
