"""The answer in a terminal, made from recommendations.json."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from analysis.report import __main__ as command
from analysis.report import terminal

SUMMARY = {
    "headline": "Use learning rate 1e-3 with batch size 8 for reasoning.",
    "learning_rates": {
        "columns": ["batch size", "Reasoning", "Pattern recognition"],
        "rows": [
            [4, "7e-4 (5e-4 to 9e-4)", "open: 2e-4 to 2e-3"],
            [8, "1.3e-3 (1e-3 to 2e-3)", "above 4e-3, at the upper edge"],
        ],
    },
    "settings": ["Reasoning: learning rate 1e-3 with batch size 8; expected to lose 0.3 points."],
    "next_step": {"sentence": "Add learning rates 8e-3 and 0.016.", "text": "", "cells": 4},
}
RECORD = {"stages": {"sft": {"stage": "sft", "arm": "", "summary": SUMMARY}}}


def printed(record: dict, **console) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80, **console).print(terminal.answer(record, 80))
    return stream.getvalue()


@pytest.mark.parametrize("colours", [False, True])
def test_the_sentence_the_rates_and_the_next_step_in_this_order(colours: bool) -> None:
    text = printed(RECORD, force_terminal=colours, no_color=not colours)
    assert ("\x1b[" in text) == colours
    for part in ("Use learning rate 1e-3", "1.3e-3", "(1e-3 to 2e-3)", "at the upper edge"):
        assert part in text
    assert "next: " in text and "Add learning rates 8e-3" in text
    assert text.index("Use learning rate") < text.index("7e-4") < text.index("next")
    if not colours:
        assert text.startswith("SFT: Use")
        assert max(map(len, text.splitlines())) <= 80


def table(path: Path, batch_sizes: list[int], shift: float = 0.0) -> Path:
    """Loss = 2 + .02 (log2 LR - log2 LR*)^2, LR* = 4e-5 at batch size 16, rising as its root."""
    rows = [
        {
            "learning_rate": 1e-5 * 2**step,
            "batch_size": size,
            "eval/loss": 2 + 0.02 * (step - 2 - shift - (size.bit_length() - 5) / 2) ** 2,
        }
        for step in range(5)
        for size in batch_sizes
    ]
    frame = pd.DataFrame(rows)
    if batch_sizes == [1]:
        del frame["batch_size"]
    frame.to_csv(path, index=False)
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: Path | str) -> list[str]:
    assert command.main(list(map(str, arguments))) == 0
    return capsys.readouterr().out.splitlines()


def test_the_report_of_a_table_ends_with_the_answer_and_the_path(tmp_path: Path, capsys) -> None:
    lines = said(capsys, table(tmp_path / "mine.csv", [8, 16, 32]))
    record = json.loads((tmp_path / "mine-report" / terminal.RECOMMENDATIONS).read_text())
    (grid,) = record["stages"].values()
    assert " ".join(grid["summary"]["headline"].split()) in " ".join(lines)
    assert any(line.split()[:2] == ["16", "4e-5"] for line in lines)
    assert lines[-1] == str(tmp_path / "mine-report" / "index.html")
    assert "grid file" not in " ".join(lines)  # a table has none


def test_without_a_batch_size_no_column_of_it_is_shown(tmp_path: Path, capsys) -> None:
    lines = said(capsys, table(tmp_path / "rates.csv", [1]))
    assert "best learning rate (95 % interval)" in lines
    assert not any("None" in line for line in lines)


def test_of_several_tables_each_answers_and_then_the_comparison(tmp_path: Path, capsys) -> None:
    sources = [table(tmp_path / "a.csv", [8, 16, 32]), table(tmp_path / "b.csv", [8, 16], 1.0)]
    lines = said(capsys, *sources, "--out", tmp_path / "both")
    record = json.loads((tmp_path / "both" / terminal.RECOMMENDATIONS).read_text())
    assert lines.index("a") < lines.index("b")
    assert sum("Use learning rate" in line for line in lines) == 2
    assert record["comparison"]["headline"] in " ".join(" ".join(lines).split())


@pytest.mark.slow
def test_values_of_a_column_need_no_rates_of_each_other(tmp_path: Path, capsys) -> None:
    """Two models in one table, one at the lower edge of its rates and one inside."""
    paths = [table(tmp_path / "a.csv", [8, 16, 32], -4.0), table(tmp_path / "b.csv", [8, 16, 32])]
    frames = [pd.read_csv(path).assign(model=name) for path, name in zip(paths, "ab", strict=True)]
    pd.concat(frames).to_csv(tmp_path / "models.csv", index=False)
    text = " ".join(" ".join(said(capsys, tmp_path / "models.csv")).split())
    assert "All trials across model" in text and "across arm" not in text
    assert "Add learning rates 2.5e-6 and 5e-6" in text
    assert "new cells beside the 15 there are. All trials (b)" in text


@pytest.mark.slow
def test_points_are_told_only_where_both_tables_have_shares(tmp_path: Path, capsys) -> None:
    """Rewards may be shares in one table and go beyond 1 in the other."""
    rows = [
        {
            "learning_rate": 1e-5 * 2**step,
            "batch_size": size,
            "reward": 0.6 - 0.02 * (step - 2) ** 2,
        }
        for step in range(5)
        for size in (8, 16)
    ]
    frame = pd.DataFrame(rows)
    shares, better, beyond = (tmp_path / f"{name}.csv" for name in ("shares", "better", "beyond"))
    frame.to_csv(shares, index=False)
    frame.assign(reward=frame.reward + 0.1).to_csv(better, index=False)
    frame.assign(reward=frame.reward + 1).to_csv(beyond, index=False)
    for other, in_points in ((better, True), (beyond, False)):
        said(capsys, shares, other, "--out", tmp_path / other.stem)
        record = json.loads((tmp_path / other.stem / terminal.RECOMMENDATIONS).read_text())
        assert ("10.0 points" in record["comparison"]["scores"][0]["sentence"]) == in_points
        assert (" points" in record["comparison"]["scores"][0]["sentence"]) == in_points


@pytest.mark.slow
def test_a_reader_that_goes_leaves_a_whole_report(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [8, 16, 32])
    program = f"{sys.executable} -m analysis.report {path} | head -c 1; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "a-report" / "index.html").exists()
