"""The reference passes of a run: which are needed, which are done, and why one failed."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sweep.plan.reference_passes import ReferencePass, needed
from sweep.plan.trials import Trial
from sweep.resolve.resolve import ResolvedGrid
from sweep.schedule.progress import training_setting
from sweep.storage.run_folder import RunFolder
from sweep.storage.trial_folder import PASS
from trainers import files


class Needed(NamedTuple):
    """By trials that are pending."""

    by_key: dict[str, ReferencePass]
    to_run: list[ReferencePass]
    """Those of them that have not failed too often."""
    needs: dict[str, list[str]]
    """Key of a trial -> keys of the passes that it waits for."""


class ReferencePasses:
    """Read from their records at each call, like the state of trials."""

    def __init__(self, resolved: ResolvedGrid, folder: RunFolder, retry_failed: bool):
        self._resolved = resolved
        self._folder = folder
        self._retry_failed = retry_failed

    def of(self, pending: Iterable[Trial], planned: Mapping[str, Trial]) -> Needed:
        """What the pending trials need of passes that are not done; `planned` has what they start
        from."""
        asked: dict[str, list[ReferencePass]] = {}
        for trial in pending:
            folder, wants = self._folder.trial(trial), self._resolved.evaluations[trial.stage]
            missing = [want for want in wants if folder.missing([want.fingerprint])]
            marks = self._resolved.fingerprints
            asked[trial.key] = needed(trial, not folder.trained(), missing, marks)
        distinct = {one.key: one for passes in asked.values() for one in passes}
        kept = self._folder.kept(distinct.values())
        by_key = {one.key: one for one in kept if not self.done(one, planned)}
        needs = {
            key: own
            for key, passes in asked.items()
            if (own := [one.key for one in passes if one.key in by_key])
        }
        to_run = [one for one in by_key.values() if not self._failed_too_often(one)]
        for one in to_run:
            files.write_json(self._folder.trial(one).path / PASS, one.record)
        return Needed(by_key, to_run, needs)

    def _failed_too_often(self, one: ReferencePass) -> bool:
        failures = self._folder.trial(one).failures(training_setting(one, self._resolved))
        return not self._retry_failed and failures > self._resolved.grid.resources.retries

    def done(self, one: ReferencePass, planned: Mapping[str, Trial]) -> bool:
        """Of the weights as they are now: they may have been deleted and trained again. A mirror
        holds no data: there the record counts alone."""
        record = self._folder.trial(one).training()
        start = planned[str(one.parent)]
        folder = self._folder.trial(start)
        if record is None or (start.spec is not None and not folder.trained()):
            return False
        if record.get("start", start.key) != folder.weights_name(start.key):
            return False
        file = self._folder.data / "reference" / str(record.get("reference_file"))
        return self._folder.mirror_of is not None or file.exists()

    def line(self, one: ReferencePass, status: str, reason: str) -> str:
        """How it ended, for the terminal."""
        record = self._folder.trial(one).training()
        if status != "ok" or record is None:
            return f"{one.title}: {status}  {reason}".strip()
        return f"{one.title}: {record['pairs']:,} pairs in {record['reference_seconds']:.1f} s"

    def why_missing(self, one: ReferencePass) -> str:
        """In one sentence, for the records of the trials that need it."""
        events = self._folder.trial(one).attempts()
        reason = next((e["reason"] for e in reversed(events) if e["event"] == "failed"), "")
        where = f"trials/{one.folder}/log.txt has more"
        return (
            "the reference log-probabilities that it needs could not be computed "
            f"({reason or 'no reason was recorded'}); {where}"
        )
