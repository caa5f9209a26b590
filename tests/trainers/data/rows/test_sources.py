"""Named data: its rows in one order, their number and their fingerprint."""

import json

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from trainers.data.rows import sources
from trainers.specs.data import DataSpec

ROWS = [{"text": f"row {number}"} for number in range(20)]


@pytest.fixture(params=["jsonl", "parquet"])
def file(request, tmp_path):
    """The same rows as a local file of each form."""
    path = tmp_path / f"rows.{request.param}"
    if request.param == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "\n")
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return path


def data(name, **settings) -> DataSpec:
    return DataSpec(name=str(name), **settings)


def test_local_file_gives_every_row_once_in_one_shuffled_order(file):
    rows = list(sources.rows(data(file)))
    assert rows == list(sources.rows(data(file)))
    assert rows != ROWS
    assert sorted(rows, key=str) == sorted(ROWS, key=str)
    assert sources.count(data(file)) == 20


def test_forms_of_local_files_give_the_same_order(tmp_path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    assert list(sources.rows(data(tmp_path / "rows.parquet"))) == list(
        sources.rows(data(tmp_path / "rows.jsonl"))
    )


@pytest.mark.parametrize("name", ["world:sft", "world:pretrain"])
def test_larger_part_of_the_world_begins_with_the_smaller_one(name):
    few = list(sources.rows(data(name, examples=30)))
    many = list(sources.rows(data(name, examples=50)))
    assert many[:30] == few


def test_larger_part_of_a_file_begins_with_the_smaller_one(file):
    few = list(sources.rows(data(file, examples=7)))
    assert len(few) == sources.count(data(file, examples=7)) == 7
    assert list(sources.rows(data(file)))[:7] == few


def test_more_examples_than_there_are_is_all_of_them(file):
    assert sources.count(data(file, examples=99)) == len(list(sources.rows(data(file)))) == 20


def test_fingerprint_is_of_the_content(file):
    before = sources.fingerprint(data(file))
    assert before == sources.fingerprint(data(file))
    file.write_bytes(file.read_bytes() + b"\n")
    assert sources.fingerprint(data(file)) != before


def test_world_has_a_fingerprint_of_its_rows():
    few = sources.fingerprint(data("world:sft", examples=5))
    assert few == sources.fingerprint(data("world:sft", examples=5))
    assert few != sources.fingerprint(data("world:sft", examples=6))
    assert few != sources.fingerprint(data("world:pretrain", examples=5))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("world:dpo", "use one of world:pretrain, world:sft"),
        ("none.jsonl", "no file"),
        ("none.parquet", "no file"),
        ("./none", "not a data file"),
        ("/none.txt", "not a data file"),
    ],
)
def test_name_that_cannot_be_data_says_why(name, said):
    assert said in str(sources.problem(name))


def test_folder_is_its_files_in_the_order_of_their_names(tmp_path):
    assert "no file in the folder" in str(sources.problem(str(tmp_path)))
    (tmp_path / "deep").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS[:5]), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[5:12]))
    (tmp_path / "deep" / "c.jsonl").write_text("\n".join(map(json.dumps, ROWS[12:])))
    (tmp_path / "README.md").write_text("not data")
    folder = data(tmp_path)
    assert sources.problem(folder.name) is None
    assert sources.count(folder) == 20
    stored = sources.stored_rows(folder)
    assert stored.read(range(20)) == ROWS
    assert stored.read([19, 0, 7, 0]) == [ROWS[19], ROWS[0], ROWS[7], ROWS[0]]
    before = sources.fingerprint(folder)
    (tmp_path / "deep" / "c.jsonl").write_text("\n".join(map(json.dumps, ROWS[13:])))
    assert sources.fingerprint(folder) != before


def test_rows_of_a_file_are_read_by_their_number_and_not_held_in_memory(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n\n  \n{"text": "Ü 🙂"}\n{"text": "c"}')
    stored = sources.stored_rows(data(path))
    assert len(stored) == 3
    path.write_text(path.read_text().replace('"a"', '"z"'))
    assert stored.read([2, 0, 1]) == [{"text": "c"}, {"text": "z"}, {"text": "Ü 🙂"}]


def test_count_of_a_mixture_weighs_its_sources(file):
    parts = [data(file, weight=0.5), data("world:sft", examples=10, weight=2.25)]
    assert sources.total(parts) == 10 + 22
    assert sources.total([*parts, data("owner/name")]) is None


def test_names_that_can_be_data_are_taken(file):
    for name in ("world:sft", str(file), "owner/name"):
        assert sources.problem(name) is None


def test_number_of_hub_rows_is_only_known_where_it_is_asked_for():
    assert sources.count(data("owner/name")) is None
    assert sources.count(data("owner/name", examples=9)) == 9


def test_hub_that_does_not_answer_is_data_unavailable(monkeypatch):
    """The environment of the tests is offline."""
    with pytest.raises(sources.DataUnavailable, match="owner/name"):
        sources.fingerprint(data("owner/name"))
    with pytest.raises(sources.DataUnavailable, match="owner/name"):
        next(sources.rows(data("owner/name")))


@pytest.mark.parametrize("content", ['{"text": "a"}\n{"text": \n', "1\n", '"a"\n'])
def test_damaged_line_of_a_file_names_file_and_line(content, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(sources.DataUnavailable, match=r"rows\.jsonl"):
        list(sources.rows(data(path)))


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_csv_with_the_index_that_pandas_writes_is_read(ending, tmp_path):
    path = tmp_path / f"rows.{ending}"
    pd.DataFrame([{"prompt": "007", "completion": "a,\n b"}]).to_csv(path)
    expected = {"Unnamed: 0": "0", "prompt": "007", "completion": "a,\n b"}
    assert list(sources.rows(data(path))) == [expected]


def test_csv_with_repeated_columns_keeps_the_first_name(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,note,note\na,b,c\n")
    assert list(sources.rows(data(path))) == [{"text": "a", "note": "b", "note.1": "c"}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text\nCafé\n".encode("latin-1"), "save it as UTF-8"),
        ("größe\na\n".encode("latin-1"), "save it as UTF-8"),
        (b"a,b\n1,2\n1,2,3\n", "Expected 2 fields in line 3, saw 3"),
        (b"", "No columns"),
    ],
    ids=["Latin-1", "Latin-1 head", "ragged", "empty"],
)
def test_csv_that_cannot_be_read_says_why(content, said, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(sources.DataUnavailable, match=rf"rows\.csv: .*{said}"):
        sources.count(data(path))
