import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from planted import bowl, table

from analysis import report


@pytest.fixture(scope="module")
def written(planted_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Path(shutil.copytree(planted_run, tmp_path_factory.mktemp("report") / "run"))
    return report.write(run)


def test_report_stands_in_the_run_folder_with_its_figures(written: Path) -> None:
    assert written.parts[-2:] == ("report", "index.html")
    figures = sorted(path.name for path in (written.parent / "figures").iterdir())
    assert len(figures) == 5 * 2 * 2
    assert "sft-world_choice-contour.png" in figures and "sft-heldout_loss-ratio.csv" in figures
    assert (written.parents[1] / "results.parquet").exists()


def test_page_asks_nothing_of_the_network(written: Path) -> None:
    text = written.read_text()
    # the names of XML namespaces look like addresses and are none
    assert set(re.findall(r"https?://[^/\s\"'<>]+", text)) <= {"http://www.w3.org"}
    assert not re.search(r"<(script|link|img|iframe)\b|@import|\bsrc=", text)


def test_links_of_the_page_lead_somewhere(written: Path) -> None:
    for link in re.findall(r'<a href="([^"]+)"', written.read_text()):
        assert (written.parent / link).exists(), link


def test_page_says_how_much_of_the_plan_it_rests_on(written: Path) -> None:
    assert "20 of 22 planned trials are done, 1 failed" in written.read_text()


def test_page_shows_reasons_of_cells_without_scores(written: Path) -> None:
    text = written.read_text()
    assert "loss is nan at step 3" in text and "MemoryError: 2 GB wanted" in text


def test_recommendations_recover_the_planted_ratios(written: Path) -> None:
    records = json.loads((written.parent / "recommendations.json").read_text())
    assert records["stage"] == "sft"
    loss = records["benchmarks"]["heldout_loss"]
    assert loss["status"] == "identified" and loss["low"] <= 2**-13.5 * 1.1
    assert loss["high"] >= 2**-13.5 / 1.1


def test_same_records_same_report(written: Path) -> None:
    def content() -> dict[str, bytes]:
        files = [path for path in written.parent.rglob("*") if path.is_file()]
        return {path.name: path.read_bytes() for path in files}

    before = content()
    report.write(written.parents[1])
    assert content() == before


def test_a_table_is_reported_where_told(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    table(bowl)[["learning_rate", "batch_size", "benchmark", "value"]].to_csv(source, index=False)
    index = report.write(source, tmp_path / "out")
    assert index == tmp_path / "out" / "index.html"
    assert "ARC" in index.read_text()


def test_names_from_the_table_are_escaped(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    frame = table(bowl, benchmark="<script>x</script>")
    frame[["learning_rate", "batch_size", "benchmark", "value"]].to_csv(source, index=False)
    assert "<script" not in report.write(source).read_text()


def test_a_wrong_path_is_one_line_and_exit_2(tmp_path: Path, capsys) -> None:
    assert report.main([str(tmp_path / "nothing.csv")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "no such file or folder" in told


def test_import_is_free_of_torch_and_ray() -> None:
    check = "import sys, analysis.report; print([m for m in ('torch', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
