"""Which weights stay: the `keep` of a stage, carried out by the driver.

A trial's weights are removed once all its scores are there and no child has to start from them any
more. A marker beside the records says that they went on purpose.
"""

from collections import defaultdict
from collections.abc import Collection

from sweep.gridfile.schema import Grid
from sweep.plan.evaluations import WantedByStage, best_by
from sweep.plan.trials import Trial
from sweep.storage.run_folder import RunFolder
from trainers import files


class Keeper:
    """Removes weights as trials end."""

    def __init__(self, grid: Grid, folder: RunFolder, wants: WantedByStage):
        self._grid = grid
        self._keep = {name: stage.keep for name, stage in grid.stages.items()}
        self._folder = folder
        self._wants = wants
        self._best: dict[str, tuple[float, Trial]] = {}

    def follow(self, planned: list[Trial]) -> None:
        """The trials of a wave."""
        self._trials = {trial.key: trial for trial in planned}
        self._children: dict[str | None, list[Trial]] = defaultdict(list)
        for trial in planned:
            self._children[trial.parent].append(trial)
        waiting = {trial.stage for trial in planned if trial.waits}
        self._awaited = {self._grid.stages[name].start_from for name in waiting}
        """Stages of which a parent is still to be chosen."""

    def look_at_all(self, spared: Collection[str] = ()) -> None:
        """For the start and the end of a run. `spared` are trials that will never run."""
        mine = [trial for trial in self._trials.values() if self._limited(trial)]
        for trial in mine:
            self._compare(trial)
        for trial in mine:
            self._remove_if_free(trial, spared)

    def ended(self, key: str) -> None:
        """A trial has ended: its weights, its parent's, or the best so far may be free."""
        trial = self._trials[key]
        free = [trial]
        if trial.parent is not None:
            free.append(self._trials[trial.parent])
        if self._limited(trial) and (before := self._compare(trial)) is not None:
            free.append(before)
        for one in free:
            if self._limited(one):
                self._remove_if_free(one)

    def _limited(self, trial: Trial) -> bool:
        return trial.spec is not None and self._keep[trial.stage] != "all"

    def _compare(self, trial: Trial) -> Trial | None:
        """Take note of a better one; returns the one that it takes the place of."""
        value = self._value(trial)
        if value is None:
            return None
        best = self._best.get(trial.stage)
        if best is not None and best[0] >= value:
            return None
        self._best[trial.stage] = (value, trial)
        return best[1] if best else None

    def _value(self, trial: Trial) -> float | None:
        """The score that `keep: best` compares, the higher the better; None where it is missing."""
        want = best_by(self._wants[trial.stage])
        record = files.read_json(self._folder.trial(trial).scores(want.fingerprint))
        for score in (record or {}).get("scores", []):
            if score["primary"] and score["value"] is not None:
                return score["value"] if score["higher_is_better"] else -score["value"]
        return None

    def _remove_if_free(self, trial: Trial, spared: Collection[str] = ()) -> None:
        folder = self._folder.trial(trial)
        keep = self._keep[trial.stage]
        if not folder.has_weights() or trial.stage in self._awaited:
            return
        if keep == "best" and self._best.get(trial.stage, (0, trial))[1].key == trial.key:
            return
        scored = folder.done([want.fingerprint for want in self._wants[trial.stage]])
        needed = any(
            child.key not in spared and self._folder.trial(child).training() is None
            for child in self._children[trial.key]
        )
        if scored and not needed:
            folder.remove_weights(f"keep: {keep}")
