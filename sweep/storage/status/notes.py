"""What there is to say of a run beside its trials: reference passes at work, and scores of one
benchmark that different classes have computed."""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sweep.storage.trial_folder import PASS, TrialFolder
from trainers import files
from trainers.files import Damaged
from trainers.processes.attempt import SIGNS


class Notes:
    """Of the run in `path`; told of each trial that has ended."""

    def __init__(self, path: Path):
        self._path = path
        self._classes: dict[str, Counter[str]] = defaultdict(Counter)
        """Benchmark -> how many trials each class has scored on it."""

    def ended(self, folder: TrialFolder, required: Iterable[Mapping[str, Any]]) -> None:
        """`required` are its evaluations, as the manifest has them."""
        for want in required:
            record = files.read_json(folder.scores(want["fingerprint"])) or {}
            settings = record.get("settings") or {}
            if "model_class" in settings:
                self._classes[want["benchmark"]][str(settings["model_class"])] += 1

    def lines(self, held: bool) -> list[str]:
        """`held`: a driver is at work."""
        return [*self._passes(held), *self._mixtures()]

    def _passes(self, held: bool) -> Iterator[str]:
        for path in sorted(self._path.glob(f"trials/*-reference-*/{PASS}")):
            folder = TrialFolder(path.parent)
            events = folder.attempts()
            if not events or folder.trained():
                continue
            with files.shaped(path):
                what = f"reference log-probabilities of {(files.read_json(path) or {})['stage']}"
                if events[-1]["event"] == "failed":
                    yield f"{what}: failed, {events[-1]['reason']}"
                elif held:
                    yield f"{what}: {_sign(folder)}; the trials that need them wait"

    def _mixtures(self) -> Iterator[str]:
        for benchmark, classes in self._classes.items():
            if len(classes) > 1:
                counts = " and ".join(
                    f"{count} by {name}" for name, count in sorted(classes.items())
                )
                yield (
                    f"{benchmark}: models were scored by different classes, {counts}; their scores "
                    "differ by rounding, more in bfloat16"
                )


def _sign(folder: TrialFolder) -> str:
    """What a running attempt is at, as it says itself."""
    with contextlib.suppress(Damaged):
        return str((files.read_json(folder.path / SIGNS) or {}).get("what") or "begun")
    return "begun"
