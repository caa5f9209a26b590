"""A few lines along a trial's metrics.jsonl, however long it is."""

import itertools
import json

import pytest

from analysis.tables.records import training_log
from analysis.tables.records.training_log import SMALL, records


def lines(steps: int) -> str:
    rows = ({"step": step, "loss": 1 / step} for step in range(1, 1 + steps))
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("steps", [1, 7, 8, 9, 100, 30_000])
@pytest.mark.parametrize("torn", ["", '{"step": 1', "x" * 5000])
def test_records_lie_evenly_from_the_first_whole_line_to_the_last(steps, torn, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(lines(steps) + torn)
    kept = [record["step"] for record in records(tmp_path, 8)]
    assert len(kept) == min(steps, 8) and (kept[0], kept[-1]) == (1, steps)
    gaps = [b - a for a, b in itertools.pairwise(kept)]
    assert max(gaps, default=1) <= 1.1 * min(gaps, default=1) + 1


def test_the_size_of_a_file_costs_nothing(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(50_000))
    parsed = []
    monkeypatch.setattr(training_log, "objects", lambda lines: parsed.extend(lines) or [])
    records(tmp_path, 80)
    assert len(parsed) == 80 and path.stat().st_size > 6 * SMALL


def test_what_is_no_record_is_skipped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('[1]\n{"step": 1}\nnonsense\n{"step": 2}\n')
    assert [record["step"] for record in records(tmp_path, 80)] == [1, 2]
    assert records(tmp_path / "elsewhere", 80) == []
