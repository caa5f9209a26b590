"""The time of attempts that failed, in the line of a trial and in the summary."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from sweep.execution import failures
from sweep.execution.job import Outcome
from sweep.storage.trial_folder import TrialFolder
from sweep.terminal import progress
from trainers.files import Damaged

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def write(tmp_path):
    def write(*events: tuple[str, float, dict]) -> TrialFolder:
        """(event, hours after noon, facts)."""
        lines = [
            json.dumps({"event": event, "time": (NOON + timedelta(hours=at)).isoformat(), **facts})
            for event, at, facts in events
        ]
        (tmp_path / "attempts.jsonl").write_text("\n".join(lines) + "\n")
        return TrialFolder(tmp_path)

    return write


@pytest.mark.parametrize(
    ("facts", "ends", "train", "evaluate"),
    [
        ({}, {"phase": "train"}, 7200, 0),
        ({}, {"phase": "evaluate"}, 0, 7200),
        ({"lanes": 4}, {"phase": "machine"}, 1800, 0),
    ],
)
def test_failure_is_told_with_the_time_of_its_attempt(write, facts, ends, train, evaluate):
    before = [("started", 0, {}), ("failed", 5, {"phase": "train"})]
    folder = write(*before, ("started", 10, facts), ("failed", 12, ends))
    ended = failures.with_seconds(Outcome("a", "failed", "why", 0.0, 0.0), folder)
    assert (ended.train_seconds, ended.eval_seconds) == (train, evaluate)


def test_trial_that_was_not_begun_and_one_that_ended_well_have_no_time_of_a_failure(write):
    folder = write(("started", 0, {}), ("failed", 5, {}), ("failed", 6, {"phase": "start"}))
    for status in ("failed", "ok"):
        ended = Outcome("a", status, "its start has no usable weights", 1.0, 2.0)
        assert failures.with_seconds(ended, folder) == ended


def test_attempts_that_failed_are_told_beside_what_trials_used(write):
    folder = write(
        ("started", 0, {}), ("failed", 1, {}),  # of an earlier start of the command
        ("started", 2, {}), ("failed", 4, {}),
        ("started", 4, {}), ("started", 5, {"previous_sign": (NOON.timestamp() + 4.5 * 3600)}),
        ("stopped", 6, {}), ("started", 6, {}), ("done", 7, {}),
    )  # fmt: skip
    lost = failures.lost_seconds([folder], (NOON + timedelta(hours=2)).timestamp())
    assert lost == 2.5 * 3600
    console = Console(file=io.StringIO(), record=True)
    work = [("sft", Outcome("a", "ok", "", 3000.0, 600.0))]
    failed = [("sft", Outcome("b", "failed", "why", 7200.0, 0.0))]
    progress.times(console, 18000.0, work + failed, {"sft": 1}, lost)
    assert "Trials used 3600 s on 1 slot (3600 s at best), failed attempts 9000 s;" in (
        console.export_text()
    )


def test_event_without_a_time_is_named(write):
    folder = write(("started", 0, {}), ("failed", 1, {"time": None}))
    with pytest.raises(Damaged, match=r"attempts\.jsonl: holds what was never written"):
        failures.with_seconds(Outcome("a", "failed", "why", 0.0, 0.0), folder)
    with pytest.raises(Damaged, match=r"attempts\.jsonl: holds what was never written"):
        failures.lost_seconds([folder], 0.0)
