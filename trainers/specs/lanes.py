"""Which trainings may share one pass as lanes of one model, and why they do not."""

from trainers import files
from trainers.specs.kinds import StageSpec
from trainers.specs.optimizer import OptimizerSpec

OWN = (frozenset(OptimizerSpec.model_fields) - {"optimizer"}) | {
    "schedule", "decay_ratio", "warmup_ratio", "warmup_steps", "warmup_tokens",
    "divergence_factor", "divergence_steps",
}  # fmt: skip
"""Fields in which lanes may differ: each has its own optimizer, schedule and bounds."""

OPTIMIZERS = ("adamw", "sgd", "adafactor", "muon")
"""torch's; those of bitsandbytes keep state that does not lie in rows."""


class NotLaned(Exception):
    """These trainings cannot share a pass here; each trains alone. Raised before the first step."""


class TooMany(NotLaned):
    """The memory holds fewer lanes."""

    def __init__(self, fits: int, lanes: int):
        super().__init__(f"the memory holds {fits} lanes of the {lanes}")
        self.fits = fits
        """How many lanes the memory holds; 1 where lanes do not fit at all."""


def lane_key(spec: StageSpec) -> str | None:
    """Trainings of one model with equal keys may share a pass; None: this one never shares."""
    if not spec.HAS_LANES or spec.optimizer not in OPTIMIZERS:
        return None
    adapter = spec.adapter
    if adapter is not None and (adapter.dropout or adapter.dora or adapter.in_4_bits):
        return None
    return files.short_hash(spec.model_dump(mode="json", exclude=set(OWN)))
