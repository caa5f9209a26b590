import base64
import gzip
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis.report import build
from analysis.report.__main__ import main
from analysis.tables import load
from analysis.tables.options import ReadOptions
from tests.analysis.planted import bowl, table


@pytest.fixture
def written(planted_report: Path) -> Path:
    return planted_report


def test_report_stands_in_the_run_folder_with_its_figures(written: Path) -> None:
    assert written.parts[-2:] == ("report", "index.html")
    figures = sorted(path.name for path in (written.parent / "figures").iterdir())
    assert len(figures) == 5 * 3 * 4
    for end in ("png", "svg", "pdf", "csv"):
        assert f"sft-world_choice-contour.{end}" in figures
        assert f"sft-heldout_loss-ratio.{end}" in figures
    assert (written.parents[1] / "results.parquet").exists()


def test_page_asks_nothing_of_the_network(written: Path) -> None:
    text = written.read_text()
    # the names of XML namespaces look like addresses and are none
    assert set(re.findall(r"https?://[^/\s\"'<>]+", text)) <= {"http://www.w3.org"}
    assert not re.search(r"<(img|iframe)\b|@import|\bsrc=", text)
    assert set(re.findall(r"<link\b[^>]*>", text)) == {'<link rel="icon" href="data:,">'}


def test_plotly_is_inside_once_and_packed(written: Path) -> None:
    text = written.read_text()
    packed = re.findall(r'<script type="text/plain" id="plotly">(.*?)</script>', text)
    assert len(packed) == 1 and len(packed[0]) < 2_100_000
    assert b"plotly.js" in gzip.decompress(base64.b64decode(packed[0]))[:200]


def surfaces_of(index: Path, grid: str = "sft") -> list[dict]:
    found = re.search(f'id="{grid}-surfaces">(.*?)</script>', index.read_text())
    assert found
    return json.loads(found[1])


def test_every_cell_is_in_the_interactive_figures_with_its_numbers(written: Path) -> None:
    frame = load.read(written.parents[1])
    surfaces = {one["benchmark"]: one for one in surfaces_of(written)}
    assert len(surfaces) == 5
    cells = surfaces["world_choice"]["cells"]
    assert len(cells["value"]) == 19 and set(cells["status"]) == {"ok", "diverged", "failed"}
    rows = frame.query("benchmark == 'world_choice' and stage == 'sft' and status == 'ok'")
    shown = [value for value in cells["value"] if value is not None]
    assert sorted(shown) == pytest.approx(sorted(rows.value), rel=1e-4)
    assert "MemoryError: 2 GB wanted" in cells["reason"]


def test_a_metric_that_is_not_primary_is_shown_unfitted_unless_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    whole = pd.concat([table(bowl, metric=metric, noise=0.002) for metric in ("acc_norm", "acc")])
    columns = ["learning_rate", "batch_size", "benchmark", "metric", "value"]
    whole[columns].to_csv(source, index=False)
    index = build.write(source)
    first = {one["metric"]: one for one in surfaces_of(index, "all")}
    assert set(first) == {"acc_norm", "acc"}
    assert [name for name, one in first.items() if one["fitted"]] == ["acc_norm"]
    kinds = [layer["kind"] for layer in first["acc"]["charts"]["contour"]["layers"]]
    assert kinds[0] == "fill" and "--all-metrics" in first["acc"]["sentence"]
    index = build.write(source, all_metrics=True)
    assert all(one["fitted"] for one in surfaces_of(index, "all"))
    assert (index.parent / "figures" / "all-arc-acc-contour.pdf").exists()


def test_links_of_the_page_lead_somewhere(written: Path) -> None:
    links = re.findall(r'<a href="([^"]+)"', written.read_text())
    assert len(links) > 6
    assert all((written.parent / link).exists() for link in links), links


def test_page_says_how_much_of_the_plan_it_rests_on(written: Path) -> None:
    assert "20 of 22 planned trials are done, 1 failed" in written.read_text()


def test_page_shows_reasons_of_cells_without_scores(written: Path) -> None:
    text = written.read_text()
    assert "loss is nan at step 3" in text and "MemoryError: 2 GB wanted" in text


ORDER = [
    "learning_rate", "ratio", "gamma", "batch_size", "setting", "contrast", "published_rules"
]  # fmt: skip


def recommendations(index: Path, stage: str = "sft") -> dict:
    record = json.loads((index.parent / "recommendations.json").read_text())
    assert record["stage"] == stage and "octaves" in record["units"]
    return record["stages"][stage]


def test_recommendations_have_the_seven_answers_in_order(written: Path) -> None:
    keys = list(recommendations(written))
    assert keys[2] == "summary" and keys[3:10] == ORDER
    page = re.sub(r"<svg.*?</svg>", "", written.read_text(), flags=re.DOTALL)
    titles = ("at each batch", "Which ratio", "follow the batch", "Which batch", "What to run",
              "Do reasoning", "published rules hold")  # fmt: skip
    places = [page.index(title) for title in titles]
    assert places == sorted(places)


def test_recommendations_recover_the_planted_ratios(written: Path) -> None:
    """The best rate of the loss is 2^-13.5 times the batch size, at every batch size."""
    record = recommendations(written)
    for one in record["learning_rate"]["benchmarks"]["heldout_loss"]:
        best = 2**-13.5 * one["batch_size"]
        assert (
            one["status"] == "interior" and one["low"] <= 1.1 * best and best <= 1.1 * one["high"]
        )
    assert record["contrast"]["verdict"] == "supported" and record["contrast"]["low"] > 0


def test_page_terminal_and_file_say_the_same(written: Path) -> None:
    summary = recommendations(written)["summary"]
    text = written.read_text()
    assert summary["headline"] in text and summary["next_step"]["sentence"] in text
    for row in summary["learning_rates"]["rows"]:
        for cell in row[1:]:
            assert cell.split(" (")[0] in text


def test_first_screen_has_scores_gains_and_lost_cells(written: Path) -> None:
    text = written.read_text()
    assert (
        "19 cells (5 learning rates x 4 batch sizes), 1 seed each; 1 diverged and 1 failed" in text
    )
    gains = recommendations(written)["summary"]["what_was_run"]["benchmarks"]
    choice = gains["world_choice"]
    assert choice["items"] == 60 and choice["gain_stderr"] > 0
    measured = choice["best"] - choice["before_training"]
    assert choice["luck"] > 0 and choice["gain"] == pytest.approx(measured - choice["luck"])
    assert text.index("What training gained") < text.index("Learning rate for each batch size")
    assert text.index("A setting to use") < text.index("Next step") < text.index("Seven answers")


def test_no_raw_code_stands_on_the_page(written: Path) -> None:
    """What a reader sees; scripts, figures and attributes left out."""
    text = re.sub(r"<(script|style|svg|code).*?</\1>", "", written.read_text(), flags=re.DOTALL)
    seen = re.sub(r"<[^>]+>", " ", text)
    assert (
        re.findall(r"too_few|rivals|\bas it is\b|\bclaims\b|\bprice\b|None|nan\b(?! at)", seen)
        == []
    )


def test_same_records_same_report(planted_run: Path, tmp_path: Path) -> None:
    def content(name: str) -> dict[str, bytes]:
        options = ReadOptions(where={"benchmark": "world_choice"})
        index = build.write(planted_run, tmp_path / name, options)
        files = [path for path in index.parent.rglob("*") if path.is_file()]
        return {path.name: path.read_bytes() for path in files}

    assert content("once") == content("again")


def test_a_table_is_reported_where_told(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    table(bowl)[["learning_rate", "batch_size", "benchmark", "value"]].to_csv(source, index=False)
    index = build.write(source, tmp_path / "out")
    assert index == tmp_path / "out" / "index.html"
    assert "ARC" in index.read_text()


def test_names_from_the_table_are_escaped(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    frame = table(bowl, benchmark="<script>x</script>")
    frame[["learning_rate", "batch_size", "benchmark", "value"]].to_csv(source, index=False)
    options = ReadOptions(directions={"<script>x</script>": "max"})
    text = build.write(source, options=options).read_text()
    assert "<script>x" not in text and text.count("</script>") == text.count("<script") == 3


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run against one whose optimum lies an octave and a half higher."""
    folder = tmp_path_factory.mktemp("compared")
    for name, octaves in (("small", 0.0), ("large", 1.5)):
        frame = table(lambda x, y, up=octaves: bowl(x - up, y), noise=0.002, seeds=2)
        frame.assign(stage="sft").to_csv(folder / f"{name}.csv", index=False)
    return build.write([folder / "small.csv", folder / "large.csv"])


def test_several_sources_are_compared_surface_by_surface(compared: Path) -> None:
    assert compared.parent.name == "small-against-large"
    told = json.loads((compared.parent / "recommendations.json").read_text())
    assert set(told["runs"]) == {"small", "large"}
    (score,) = told["comparison"]["scores"]
    assert (
        score["difference"]["stderr"] > 0 and "Between these runs" in told["comparison"]["headline"]
    )
    (one,) = told["comparison"]["optima"]
    middle, low, high = one["ratio"]
    assert 0 < low < 1.5 < high and middle == pytest.approx(1.5, abs=0.4)
    assert (one["first"], one["second"]) == ("small", "large")


def test_page_of_a_comparison_has_it_first_and_every_run_after(compared: Path) -> None:
    text = compared.read_text()
    places = [text.index(mark) for mark in ('id="comparison"', 'id="small-sft"', 'id="large-sft"')]
    assert places == sorted(places)
    assert "no difference beyond noise on ARC" in text
    ids = re.findall(r'\bid="([^"]+)"', re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL))
    assert len(ids) == len(set(ids))
    links = re.findall(r'<a href="([^"]+)"', text)
    assert links
    assert all((compared.parent / link).exists() for link in links), links


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two benchmarks whose best ratios lie two octaves apart, ARC weighing three times as much."""
    source = tmp_path_factory.mktemp("mixed") / "table.csv"
    parts = [
        table(lambda x, y, up=up: bowl(x - up, y), benchmark=name, noise=0.002, seeds=2)
        for name, up in (("arc", 1.0), ("hellaswag", -1.0))
    ]
    pd.concat(parts).assign(stage="sft").to_csv(source, index=False)
    assert main([str(source), "--weights", "arc=3,hellaswag=1"]) == 0
    return source.parent / f"{source.stem}-report" / "index.html"


def test_a_mix_has_one_setting_and_says_where_its_benchmarks_disagree(mixed: Path) -> None:
    record = recommendations(mixed)["setting"]
    weights = {one["benchmark"]: one["weight"] for one in record["mix"]["prices"]}
    assert weights == {"arc": 0.75, "hellaswag": 0.25}
    loss = {one["benchmark"]: one["expected"] for one in record["mix"]["prices"]}
    assert 0 < loss["arc"] < loss["hellaswag"] and "HellaSwag" in record["mix"]["disagree"]
    text = mixed.read_text()
    assert "Its benchmarks disagree:" in text and "HellaSwag loses" in text


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("gsm8k=1", "no grid has scores of gsm8k; benchmarks of these grids: arc"),
        ("arc", "'arc' is not BENCHMARK=WEIGHT"),
        ("arc=-1", "'arc=-1' is not BENCHMARK=WEIGHT"),
        ("arc=0", "at least one weight has to be above 0"),
    ],
)
def test_weights_that_cannot_be_are_refused_before_anything_is_written(
    tmp_path: Path, capsys, weights: str, said: str
) -> None:
    source = tmp_path / "table.csv"
    table(bowl).to_csv(source, index=False)
    try:
        code = main([str(source), "--weights", weights])
    except SystemExit as refused:
        code = refused.code
    assert code == 2 and said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [source]


def test_the_next_step_is_the_same_in_sentence_and_grid_file(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    table(lambda x, y: 0.03 * x, noise=0.002).to_csv(source, index=False)
    index = build.write(source)
    text = index.read_text()
    assert 'data-copies="all-next"' in text and "learning_rate: [0.0001" in text
    step = recommendations(index, "all")["summary"]["next_step"]
    assert step["sentence"] in text and f"({step['cells']} new cells)" in text
    assert f"{step['cells']} new cells beside the 20 there are" in step["sentence"]


@pytest.mark.parametrize("axis", ["batch_size", "learning_rate"])
def test_one_value_of_an_axis_gets_a_page_of_one_dimension(tmp_path: Path, axis: str) -> None:
    source = tmp_path / "table.csv"
    one = {"sizes": (8,)} if axis == "batch_size" else {"rates": (1e-3,)}
    table(bowl, noise=0.002, **one).to_csv(source, index=False)
    index = build.write(source)
    (surface,) = surfaces_of(index, "all")
    assert list(surface["charts"]) == ["rate"]
    record = recommendations(index, "all")
    assert record["summary"]["headline"].startswith("Use learning rate")
    if axis == "batch_size":
        (best,) = record["learning_rate"]["benchmarks"]["arc"]
        assert best["low"] <= 2**-10 <= best["high"]


def test_a_wrong_path_is_one_line_and_exit_2(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path / "nothing.csv")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "no such file or folder" in told


def test_tables_of_one_folder_have_a_report_each(tmp_path: Path, capsys) -> None:
    for name, shift in (("first", 0.0), ("second", 1.0)):
        frame = table(lambda x, y, by=shift: bowl(x - by, y), benchmark="arc")
        frame.assign(stage="sft").to_csv(tmp_path / f"{name}.csv", index=False)
        assert main([str(tmp_path / f"{name}.csv")]) == 0
        assert capsys.readouterr().out.strip().endswith(f"{name}-report/index.html")
    pages = [tmp_path / f"{name}-report" / "index.html" for name in ("first", "second")]
    assert all(page.exists() for page in pages)
    assert pages[0].read_text() != pages[1].read_text()
