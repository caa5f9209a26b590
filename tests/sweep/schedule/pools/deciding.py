"""A run that decides, on records that a test writes."""

import math
from collections.abc import Callable
from pathlib import Path

from sweep.gridfile.screening import screening_stage
from sweep.plan import trials as plan
from sweep.plan.bundles import Bundles
from sweep.plan.evaluations import Wanted
from sweep.plan.trials import Trial
from sweep.plan.widen import decided_stage, widened
from sweep.schedule.pools.decide import DecidePool, DecideQueue
from sweep.schedule.queue import Pending
from sweep.storage.run_folder import RunFolder
from trainers import files

BEFORE = """\
model: tiny
stages:
  before:
    kind: sft
    data: {name: world:sft, examples: 24}
    learning_rate: 0.001
    batch_size: 4
  sft:
    kind: sft
    start_from: before
"""
"""A trained model, and a stage that starts from it."""

DECIDE = (
    f"name: decided\n{BEFORE}"
    + """\
    data: {name: world:sft, examples: 200}
    grid:
      learning_rate: {log2: [0.0005, 0.032]}
      batch_size: [4, 8, 16]
      seed: [3, 5]
evaluate: {benchmarks: [world_choice, world_continuation]}
decide: {trials: 30, octaves: 2.5, at_once: 2, benchmarks: [world_choice]}
"""
)
WANTED = Wanted(
    benchmark="world_choice", task="world_choice", fingerprint="f", metric="acc",
    higher_is_better=True,
)  # fmt: skip

HELDOUT = WANTED.model_copy(
    update={"benchmark": "heldout_loss", "task": "heldout_loss", "fingerprint": "h",
            "metric": "loss", "higher_is_better": False}
)  # fmt: skip


def bowl(trial: Trial) -> float:
    """Best at a learning rate of 0.004."""
    if trial.spec is None:
        return 0.1
    wobble = 0.004 * math.sin(7919 * trial.spec.seed + 31 * math.log(trial.spec.learning_rate))
    return 0.6 - 0.03 * math.log2(trial.spec.learning_rate / 0.004) ** 2 + wobble


class Records:
    """A run folder whose trials end as a test says: in full as `full` has it, and screening runs as
    `short` has it."""

    def __init__(
        self,
        grid,
        folder: Path,
        short: Callable[[Trial], float] = bowl,
        full: Callable[[Trial], float] = bowl,
    ):
        self.grid = grid
        self.short = short
        self.full = full
        self.screens = screening_stage(grid)
        self.told: list[str] = []
        self.planned = plan.trials(widened(grid))
        self.folder = RunFolder(folder)
        self.reasons: dict[str, str] = {}
        stages = {"sft": {"evaluations": [WANTED.record]}}
        if self.screens is not None:
            stages["sft"]["evaluations"].append(HELDOUT.record)
            own = {"evaluations": [HELDOUT.record], "screens": "sft"}
            stages = {self.screens.name: own} | stages
        files.write_json(folder / "manifest.json", {"name": "decided", "stages": stages})

    def pool(self, wanted: Wanted = WANTED) -> DecidePool:
        return DecidePool(
            self.grid, self.planned, self.folder, {decided_stage(self.grid).name: (wanted,)}
        )

    def queue(self, pool: DecidePool) -> DecideQueue:
        def usable(key: str) -> bool:
            return self.folder.trial(next(t for t in self.planned if t.key == key)).usable()

        def chose(trial: Trial, reason: str) -> None:
            self.folder.extend_plan(pool.shown(self.planned), pool.beside(trial, self.planned))
            self.reasons[trial.key] = reason

        self.folder.write_plan(self.grid, pool.shown(self.planned))
        pending = [t for t in self.planned if not self.folder.trial(t).training()]
        asks = {"chose": chose, "told": self.told.append, "bundles": Bundles(self.grid)}
        return pool.queue(Pending(pending, usable, **asks))

    def end(self, trial: Trial) -> None:
        here = self.folder.trial(trial)
        here.log_attempt("started")
        files.write_json(here.path / "train.json", {"status": "ok", "reason": ""})
        is_short = self.screens is not None and trial.stage == self.screens.name
        score = {"metric": "acc", "value": self.full(trial), "stderr": 0.004, "n": 400}
        score |= {"primary": True, "higher_is_better": True}
        if not is_short:
            files.write_json(here.scores("f"), {"scores": [score]})
        if self.screens is not None:
            loss = 3 - (self.short if is_short else self.full)(trial)
            score |= {"metric": "loss", "value": loss, "higher_is_better": False}
            files.write_json(here.scores("h"), {"scores": [score]})
        here.log_attempt("done")

    def run(self, queue: DecideQueue, count: int = 99) -> list[Trial]:
        """As the runner with one trial at a time does it."""
        ran = []
        while len(ran) < count and (trial := queue.next()) is not None:
            self.end(trial)
            queue.ended(trial.key)
            ran.append(trial)
        return ran


def cells(trials: list[Trial]) -> list[tuple[float, int, int]]:
    specs = [t.spec for t in trials if t.spec is not None and t.stage == "sft"]
    return [(spec.learning_rate, spec.batch_size, spec.seed) for spec in specs]
