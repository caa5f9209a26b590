"""What DPO trials need before they start: the log-probabilities of their pairs under the model that
they start from, computed once for all trials that share model and data."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sweep.plan.evaluations import Wanted
from sweep.plan.trials import KEY_LENGTH, Trial
from trainers import files
from trainers.data import row_counts
from trainers.models import adapters
from trainers.specs.kinds import StageSpec


class ReferencePass(Trial):
    """One pass of the model `parent` over the pairs of `spec`. It is scheduled like a trial and is
    none: it has no model, no scores and no place in the plan."""

    @property
    def readable(self) -> str:
        return f"{self.stage}-reference"

    @property
    def title(self) -> str:
        return f"reference log-probabilities of {self.stage}"

    @property
    def record(self) -> dict[str, Any]:
        """What it is, for its folder."""
        assert self.spec is not None, "it reads the data of a spec"
        about = {"key": self.key, "parent": self.parent, "stage": self.stage}
        return about | {"dtype": self.spec.dtype} | row_counts.asked(self.spec)


def needed(
    trial: Trial, train: bool, missing: Collection[Wanted], data: Mapping[str, str]
) -> list[ReferencePass]:
    """Those of a trial that is still to be trained (`train`), or lacks the `missing` evaluations;
    `data` has the fingerprints of data by `DataSpec.label`."""
    spec = trial.spec
    if spec is None or not spec.NEEDS_REFERENCE or trial.parent is None:
        return []
    specs: list[StageSpec] = [spec] if train else []
    for want in missing:
        if want.heldout is not None:
            own = {"dtype": spec.dtype, "adapter": spec.adapter}
            specs.append(want.heldout.model_copy(update=own))
    passes = (_pass(trial, one, data) for one in specs)
    return list({one.key: one for one in passes}.values())


def expected(planned: Iterable[Trial]) -> int:
    """How many a plan has for training; one of a stage whose parent is yet to be chosen."""
    trials = [trial for trial in planned if trial.spec and trial.spec.NEEDS_REFERENCE]
    chosen = {one.key for trial in trials for one in needed(trial, True, [], {})}
    return len(chosen) + len({trial.stage for trial in trials if trial.parent is None})


def _pass(trial: Trial, spec: StageSpec, data: Mapping[str, str]) -> ReferencePass:
    content = [[source.model_dump(), data.get(source.label)] for source in spec.sources]
    start = adapters.name_of_base(str(trial.parent), spec.adapter)
    key = files.short_hash("reference pass", start, row_counts.asked(spec), content, spec.dtype)
    return ReferencePass(
        key=key[:KEY_LENGTH],
        parent=trial.parent,
        stage=trial.stage,
        arm="",
        model=trial.model,
        spec=spec,
    )
