"""Every row that training reads goes past the function once, on one core or on several."""

import json

import pytest

from sweep.audit import scan
from sweep.audit.scan import Reading
from trainers.data.rows.sources import DataUnavailable
from trainers.specs.data import DataSpec

COUNT = 3600


@pytest.fixture
def numbers(tmp_path):
    path = tmp_path / "numbers.jsonl"
    path.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(COUNT)))
    return path


def listed(context: str, rows: scan.Rows) -> list[tuple[str, int, int]]:
    return [(context, number, row["n"]) for number, row in rows]


def scanned(path, cores: int, seed: int = 0, **settings) -> list[tuple[str, int, int]]:
    data = DataSpec(name=str(path), **settings)
    parts = list(scan.scan(Reading(data, seed), listed, "here", cores))
    assert sum(rows for rows, _ in parts) == sum(len(part) for _, part in parts)
    return [row for _, part in parts for row in part]


@pytest.mark.parametrize("cores", [1, 2])
def test_all_rows_come_once_and_in_order(numbers, cores):
    assert scanned(numbers, cores) == [("here", n, n) for n in range(COUNT)]


def test_a_part_of_the_data_is_the_part_that_training_reads(numbers):
    from trainers.data.rows import sources

    data = DataSpec(name=str(numbers), examples=30)
    read = sorted(row["n"] for row in sources.rows(data))
    assert [n for *_, n in scanned(numbers, 1, examples=30)] == read
    assert [n for *_, n in scanned(numbers, 1, seed=1, examples=30)] != read


def test_rows_that_are_repeated_in_training_are_read_once(numbers):
    assert len(scanned(numbers, 1, weight=3.0)) == COUNT


@pytest.mark.parametrize("cores", [1, 2])
def test_a_damaged_line_is_told_with_its_place(numbers, cores):
    lines = numbers.read_text().splitlines()
    lines[2999] = "{"
    numbers.write_text("\n".join(lines))
    with pytest.raises(DataUnavailable, match=r"numbers\.jsonl:3000: not JSON"):
        scanned(numbers, cores)
