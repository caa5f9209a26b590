"""Which weights stay: the `keep` of a stage, carried out by the driver.

A trial's weights are removed once all its scores are there and no child has to start from them any
more. A marker beside the records says that they were removed on purpose. A reward model that a
stage of the grid names stays. `keep: best` keeps the first seed of the best cell
(sweep/storage/ranking.py), and until that is decided those of every cell that may yet be it. Where
seeds are added later, a cell whose weights are gone may become the best one; the best of those that
have weights then keeps its own.
"""

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from sweep.gridfile.keys.schema import Grid
from sweep.plan.evaluations import WantedByStage, best_by
from sweep.plan.trials import Trial
from sweep.schedule import selection
from sweep.storage import ranking
from sweep.storage.run_folder import RunFolder


class WeightRetention:
    """Removes weights as trials end."""

    def __init__(self, grid: Grid, folder: RunFolder, wants: WantedByStage):
        self._grid = grid
        self._keep = {name: stage.keep for name, stage in grid.stages.items()}
        self._folder = folder
        self._wants = wants

    def follow(self, planned: list[Trial]) -> None:
        """The trials of a wave."""
        self._trials = {trial.key: trial for trial in planned}
        self._children: dict[str | None, list[Trial]] = defaultdict(list)
        for trial in planned:
            self._children[trial.parent].append(trial)
        self._known = {
            trial.key: ranking.unscored(trial, self._trials)
            for trial in planned
            if self._keep.get(trial.stage) == "best" and not trial.waits
        }
        """Of stages with `keep: best`: the scores, as far as they were looked at."""
        self._diverged: set[str] = set()
        """Settings of which a seed has diverged, so that their cell can never be best."""
        self._unranked: set[str] = set()
        """Keys of those that an earlier version scored without the metric that tells the best."""
        self._weights: set[str] = set()
        """Keys of those whose weights are there, as far as they were looked at."""
        waiting = {trial.stage for trial in planned if trial.waits}
        starts = {self._grid.stages[name].start_from for name in waiting}
        stages = selection.stages_of(self._grid, self._folder) if waiting else {}
        self._awaited = {trial.key for start in starts for trial in stages[start]}
        """Keys of the trials among which a parent is still to be chosen."""
        self._reward_models = self._of_stages()
        """Keys of the trials whose model is the `reward_model` of a stage."""

    def _of_stages(self) -> set[str]:
        specs = [spec for stage in self._grid.stages.values() for _, spec in stage.cells]
        names = [getattr(spec, "reward_model", None) for spec in specs]
        models = {Path(name).resolve() for name in names if name}
        return {
            trial.key
            for trial in (self._trials.values() if models else ())
            if self._folder.trial(trial).model.resolve() in models
        }

    def look_at_all(self, spared: Collection[str] = ()) -> None:
        """For the start and the end of a run. `spared` are trials that will never run."""
        limited = [trial for trial in self._trials.values() if self._limited(trial)]
        for trial in limited:
            self._look(trial)
        held = {stage: self._held(stage, spared) for stage in {trial.stage for trial in limited}}
        for trial in limited:
            self._remove_if_free(trial, held[trial.stage], spared)

    def ended(self, key: str) -> None:
        """A trial has ended: its weights, its parent's, or those of a beaten cell may be free."""
        trial = self._trials[key]
        free = [trial]
        if trial.parent is not None:
            free.append(self._trials[trial.parent])
        before = self._held(trial.stage)
        self._look(trial)
        held = {stage: self._held(stage) for stage in {candidate.stage for candidate in free}}
        free += [self._trials[key] for key in before - held[trial.stage]]
        for candidate in free:
            if self._limited(candidate):
                self._remove_if_free(candidate, held[candidate.stage])

    def _limited(self, trial: Trial) -> bool:
        return trial.spec is not None and self._keep[trial.stage] != "all"

    def _look(self, trial: Trial) -> None:
        """Take note of its score, of its weights, or that it diverged."""
        if trial.key not in self._known:
            return
        folder = self._folder.trial(trial)
        evaluation = best_by(self._wants[trial.stage]).record
        self._known[trial.key] = ranking.scored(trial, self._trials, folder, evaluation)
        if folder.has_weights():
            self._weights.add(trial.key)
        if self._known[trial.key].value is None and ranking.lacks_metric(folder, evaluation):
            self._unranked.add(trial.key)
        if (folder.training() or {}).get("status") == "diverged":
            self._diverged.add(self._known[trial.key].setting)

    def _held(self, stage: str, spared: Collection[str] = ()) -> set[str]:
        """Keys of the trials that `keep: best` holds: the first seed with weights of the best cell
        that has any, and of each cell that still lacks a seed which will run; and what cannot be
        ranked."""
        trials = [
            key for key in self._known if self._trials[key].stage == stage and key not in spared
        ]
        cells = ranking.rank(self._known[key] for key in trials)
        undecided = [
            cell
            for cell in cells
            if not cell.complete and self._known[cell.key].setting not in self._diverged
        ]
        first = {cell: cell.with_weights(self._weights.__contains__) for cell in cells}
        best = next(filter(None, first.values()), None)
        kept = {key for key in (best, *(first[cell] for cell in undecided)) if key is not None}
        return kept | (self._unranked & {*trials})

    def _remove_if_free(
        self, trial: Trial, held: Collection[str], spared: Collection[str] = ()
    ) -> None:
        folder = self._folder.trial(trial)
        if trial.key in self._awaited or trial.key in self._reward_models or trial.key in held:
            return
        if not folder.has_weights():
            return
        scored = folder.done([want.fingerprint for want in self._wants[trial.stage]])
        needed = any(
            child.key not in spared and self._folder.trial(child).training() is None
            for child in self._children[trial.key]
        )
        if scored and not needed:
            folder.remove_weights(f"keep: {self._keep[trial.stage]}")
            self._weights.discard(trial.key)
