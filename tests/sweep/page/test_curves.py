"""Loss curves of running trials, read as their file grows."""

import json
from json import loads

from sweep.page import curves
from sweep.page.curves import POINTS, LossCurve


def lines(first: int, last: int, loss: float = 1.0) -> str:
    rows = ({"step": step, "smoothed_loss": loss / step} for step in range(first, last + 1))
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_only_new_whole_lines_are_taken_in(tmp_path):
    path = tmp_path / "metrics.jsonl"
    curve = LossCurve(path)
    curve.read()
    assert curve.steps == []
    path.write_text(lines(1, 3) + '{"step": 4, "smoo')
    curve.read()
    assert curve.steps == [1, 2, 3]
    path.write_text(lines(1, 5))
    curve.read()
    assert curve.steps == [1, 2, 3, 4, 5]
    assert curve.losses[-1] == 0.2


def test_long_training_is_thinned_evenly(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 4000))
    curve = LossCurve(path)
    curve.read()
    assert POINTS <= len(curve.steps) <= 2 * POINTS
    gaps = {b - a for a, b in zip(curve.steps, curve.steps[1:], strict=False)}
    assert len(gaps) == 1 and curve.steps[0] == 1


def test_some_lines_of_a_long_file_are_read_and_later_ones_as_far_apart(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 50_000) + '{"step": 50')
    parsed = []
    monkeypatch.setattr(curves.json, "loads", lambda line: parsed.append(line) or loads(line))
    curve = LossCurve(path)
    curve.read()
    assert len(parsed) == len(curve.steps) == POINTS
    assert (curve.steps[0], curve.steps[-1]) == (1, 50_000)
    path.write_text(lines(1, 55_000))
    curve.read()
    assert len(parsed) == len(curve.steps) < 2 * POINTS
    gaps = [b - a for a, b in zip(curve.steps, curve.steps[1:], strict=False)]
    assert max(gaps) < 1.2 * min(gaps)


def test_attempt_that_begins_again_replaces_the_curve(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 50))
    curve = LossCurve(path)
    curve.read()
    path.write_text(lines(1, 10, loss=7.0))
    curve.read()
    assert curve.steps == list(range(1, 11)) and curve.losses[0] == 7.0


def test_attempt_that_has_got_further_than_the_last_replaces_its_steps(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 50))
    curve = LossCurve(path)
    curve.read()
    path.write_text(lines(1, 30) + lines(31, 80, loss=7.0))
    curve.read()
    assert curve.steps == list(range(1, 81))
    assert curve.losses[29:31] == [1 / 30, 7 / 31]


def test_loss_that_is_not_a_number_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 2) + '{"step": 3, "smoothed_loss": NaN}\n[]\nnonsense\n')
    curve = LossCurve(path)
    curve.read()
    assert curve.steps == [1, 2]
