"""What is known of the data of planned trials once it was prepared."""

from collections.abc import Sequence
from pathlib import Path

from sweep.plan.trials import Trial
from trainers.data import row_counts
from trainers.data.row_counts import Preparation


def preparations(planned: Sequence[Trial], data: Path) -> dict[str, Preparation]:
    """By key of the trial, from `data` of the run folder; each kind of spec is looked up once."""
    specs = {trial.key: trial.spec for trial in planned if trial.spec is not None}
    kinds = {key: str(row_counts.asked(spec)) for key, spec in specs.items()}
    of_kind = {kind: specs[key] for key, kind in kinds.items()}
    known = {kind: row_counts.find(data, spec) for kind, spec in of_kind.items()}
    by_trial = {key: known[kind] for key, kind in kinds.items()}
    return {key: preparation for key, preparation in by_trial.items() if preparation is not None}
