"""What a run ends with in a terminal, from recommendations.json."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sweep.terminal import answer

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


def printed(folder: Path, **console) -> str:
    stream = io.StringIO()
    answer.show(Console(file=stream, width=80, **console), folder)
    return stream.getvalue()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    path = tmp_path / answer.RECOMMENDATIONS
    path.parent.mkdir()
    path.write_text(json.dumps({"stage": "sft", "stages": {"sft": {"summary": SUMMARY}}}))
    return tmp_path


@pytest.mark.parametrize("colours", [False, True])
def test_a_run_ends_with_the_answer(run_folder: Path, colours: bool) -> None:
    text = printed(run_folder, force_terminal=colours, no_color=not colours)
    assert ("\x1b[" in text) == colours
    for part in ("Use learning rate 1e-3", "1.3e-3", "(1e-3 to 2e-3)", "at the upper edge"):
        assert part in text
    assert "next: " in text and "Add learning rates 8e-3" in text
    assert text.index("Use learning rate") < text.index("7e-4") < text.index("next")
    if not colours:
        assert max(map(len, text.splitlines())) <= 80


def test_a_run_without_a_report_prints_nothing(tmp_path: Path) -> None:
    assert printed(tmp_path) == ""


def test_the_answer_of_a_real_run_is_printed(chain_run) -> None:
    record = json.loads((chain_run.path / answer.RECOMMENDATIONS).read_text())
    text = " ".join(printed(chain_run.path).split())
    for stage in record["stages"].values():
        assert stage["summary"]["headline"] in text
        assert stage["summary"]["next_step"]["sentence"] in text
