"""What the records say is done, and what this start of the command runs."""

from collections.abc import Collection, Mapping
from typing import Any

from sweep.options import Options
from sweep.plan.trials import Trial, cost
from sweep.price.money import Done
from sweep.resolve.resolve import ResolvedGrid
from sweep.storage.run_folder import RunFolder
from trainers import files


def training_setting(trial: Trial, resolved: ResolvedGrid) -> str:
    """Hash of what a training could fail of: settings, data, resources and limits."""
    spec, grid = trial.spec, resolved.grid
    sources = () if spec is None else spec.sources
    return files.short_hash(
        None if spec is None else spec.model_dump(mode="json"),
        [resolved.fingerprints.get(source.label) for source in sources],
        grid.trial_resources(trial.stage).model_dump(exclude={"lanes"}),
        grid.limits.max_trial_hours,
    )


class Progress:
    """The state of planned trials, read from their records at each call."""

    def __init__(self, resolved: ResolvedGrid, folder: RunFolder, options: Options):
        self._resolved = resolved
        self._retries = resolved.grid.resources.retries
        self._folder = folder
        self._evaluations = resolved.evaluations
        self._options = options
        self.impossible: dict[str, str] = {}
        """Stages whose parent cannot be chosen, and why."""

    def state(self, trial: Trial) -> str:
        """`ok`, `diverged`, `failed` or `planned`."""
        if trial.waits:
            return "failed" if trial.stage in self.impossible else "planned"
        folder = self._folder.trial(trial)
        if folder.done(self._fingerprints(trial)):
            return (folder.training() or {})["status"]
        return "failed" if folder.failed() else "planned"

    def failed(self, pending: Collection[Trial]) -> list[str]:
        """Keys of those whose latest attempt failed."""
        return [trial.key for trial in pending if self._folder.trial(trial).failed()]

    def standing(self, trial: Trial, passed_over: Collection[str]) -> str:
        """The state; `not asked for` of a cell that was passed over, and of what `--only` leaves
        out and was never run."""
        state = self.state(trial)
        left = state == "planned" and not self._asked(trial)
        return "not asked for" if left or trial.key in passed_over else state

    def pending(self, planned: Collection[Trial], passed_over: Collection[str] = ()) -> list[Trial]:
        """What this start runs: asked for, not done, not failed too often. `passed_over` are the
        keys that a search which has ended never asked for."""
        return [
            trial
            for trial in planned
            if self._asked(trial)
            and trial.key not in passed_over
            and (self.goes_on(trial) or (self._options.retry_failed and self._unfinished(trial)))
        ]

    def goes_on(self, trial: Trial) -> bool:
        """Whether every start of the command goes on with it until it has ended: it is not done,
        and has not failed too often."""
        return self._unfinished(trial) and self._failures(trial) <= self._retries

    def _unfinished(self, trial: Trial) -> bool:
        return (
            not trial.waits
            and self.state(trial) in ("planned", "failed")
            and not self.weights_missing(trial)
        )

    def _asked(self, trial: Trial) -> bool:
        return self._options.only is None or trial.key in self._options.only

    def _failures(self, trial: Trial) -> int:
        """Failures under what the grid, the data and the task files are now: what was mended since
        is tried again."""
        setting = training_setting(trial, self._resolved)
        return self._folder.trial(trial).failures(setting, self._fingerprints(trial))

    def weights_missing(self, trial: Trial) -> bool:
        """Whether a model was trained, lacks an evaluation, and its weights were not kept."""
        folder = self._folder.trial(trial)
        removed = trial.spec is not None and folder.usable() and not folder.has_weights()
        return removed and not folder.done(self._fingerprints(trial))

    def may_mend(self, trial: Trial, planned: Mapping[str, Trial]) -> bool:
        """Whether it failed of something that a further attempt may not fail of. What its start has
        blocked needs an attempt at that; `planned` has it by its key."""
        if trial.waits or self.state(trial) != "failed" or self.weights_missing(trial):
            return False
        start = planned.get(trial.parent or "")
        return start is None or self.usable(start) or self._folder.trial(trial).trained()

    def part_done(self, trial: Trial) -> Done:
        """By an earlier start, or an earlier attempt of this one: by its newest checkpoint, where
        the number of its steps is known."""
        trained, step, scores = self._folder.trial(trial).progress()
        steps = cost(trial).steps
        share = 1.0 if trained else min(1.0, step / steps) if steps else 0.0
        wanted = len(self._fingerprints(trial))
        return Done(share, min(1.0, scores / wanted) if wanted else 0.0)

    def usable(self, trial: Trial) -> bool:
        """Whether another trial can start from this one's weights."""
        folder = self._folder.trial(trial)
        return trial.spec is None or (folder.usable() and folder.has_weights())

    def why_unusable(self, trial: Trial) -> str:
        """Why no other trial can start from this one's weights."""
        name, folder = f"its start {trial.readable} ({trial.key})", self._folder.trial(trial)
        if folder.trained() and not folder.usable():
            return f"{name} diverged and has no usable weights"
        reason = f"{name} has no usable weights"
        last = (folder.attempts() or [{}])[-1]
        if removed := folder.weights_removed():
            place = self._folder.to_delete(folder.path)
            reason += f": they were removed ({removed}); delete {place} to train it again"
        elif last.get("event") == "failed" and last.get("phase") == "start":
            reason += f": {last['reason']}"
        return reason

    def note_missing_weights(self, planned: Collection[Trial]) -> list[str]:
        """Record which evaluations cannot run because weights were not kept; returns the lines that
        say so."""
        lacking, never = dict[str, list[str]](), set[str]()
        for trial in filter(self.weights_missing, planned):
            folder = self._folder.trial(trial)
            names = [
                evaluation["benchmark"]
                for evaluation in self._due(trial)
                if folder.missing([evaluation["fingerprint"]])
            ]
            reason = f"its weights were not kept, so it cannot be scored on {', '.join(names)}"
            folder.log_attempt("failed", phase="start", reason=reason)
            never |= set(names) - folder.scored()
            for name in names:
                lacking.setdefault(name, []).append(f"{trial.readable} ({trial.key})")
        lines = [f"{name}: no weights are left of {', '.join(c)}" for name, c in lacking.items()]
        if lines:
            ways = []
            if before := [name for name in lacking if name not in never]:
                ways.append(
                    f"put back what {' and '.join(before)} had when these trials were scored on it "
                    "(`evaluate`, the held-out data, the version of lm-eval): their scores are kept"
                )
            if never:
                ways.append(f"take {' and '.join(sorted(never))} out of the grid")
            below = self._folder.to_delete(self._folder.path / "trials")
            ways.append(f"delete the folders of these trials, below {below}, to train them again")
            lines.append("; or ".join(ways))
        return lines

    def _due(self, trial: Trial) -> list[dict[str, Any]]:
        wanted = self._evaluations.get(trial.stage, ())
        return self._folder.trial(trial).due(evaluation.record for evaluation in wanted)

    def _fingerprints(self, trial: Trial) -> list[str]:
        return [evaluation["fingerprint"] for evaluation in self._due(trial)]
