"""Kind of stage -> the function that trains it."""

from pathlib import Path

from trainers import models
from trainers.spec import SftSpec, StageResult


def train(
    spec: SftSpec, loaded: models.Loaded, cache: Path, folder: Path, deadline: float
) -> StageResult:
    """Train `loaded.model` in place as `spec.kind` says; `cache` holds prepared data.

    Raises:
        DataUnavailable: the data cannot be had.
        OutOfTime: the monotonic clock has passed `deadline`.
    """
    match spec.kind:
        case "sft":
            from trainers import data, sft

            prepared = data.prepare(spec, loaded.tokenizer, cache)
            return sft.train(spec, loaded, prepared, folder, deadline)
