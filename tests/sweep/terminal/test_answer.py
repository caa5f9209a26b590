"""What a run ends with in a terminal, from recommendations.json."""

import io
import json
from pathlib import Path

from rich.console import Console

from sweep.terminal import answer


def printed(folder: Path) -> str:
    stream = io.StringIO()
    answer.show(Console(file=stream, width=80), folder)
    return stream.getvalue()


def test_a_run_without_a_report_prints_nothing(tmp_path: Path) -> None:
    assert printed(tmp_path) == ""


def test_the_answer_of_a_real_run_is_printed(chain_run) -> None:
    record = json.loads((chain_run.path / answer.RECOMMENDATIONS).read_text())
    text = " ".join(printed(chain_run.path).split())
    for stage in record["stages"].values():
        assert stage["summary"]["headline"] in text
        assert stage["summary"]["next_step"]["sentence"] in text
