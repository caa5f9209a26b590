"""The best cell so far, as the status of a run tells it."""

import io
from types import SimpleNamespace

from rich.console import Console

from sweep.storage.ranking import Scored
from sweep.storage.status.best_so_far import BestSoFar
from sweep.terminal import progress


def test_best_cell_is_told_with_its_arm(tmp_path):
    plan = {"stage": "sft", "learning_rate": "1e-3", "batch_size": "8", "seed": "0"}
    rows = [plan | {"key": arm, "arm": arm, "folder": arm} for arm in ("adamw", "lion")]
    scores = {arm: Scored(arm, arm, 0, value) for arm, value in (("adamw", 0.5), ("lion", 0.6))}
    (best,) = BestSoFar(tmp_path).of(rows, {("sft", "arc"): scores}, ())
    assert best.arm == "lion"
    console = Console(width=80, file=io.StringIO())
    with console.capture() as shown:
        console.print(*progress._bests(SimpleNamespace(best=[best])))
    assert "sft (lion)" in shown.get()
