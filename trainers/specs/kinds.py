"""The kinds of training stages: `kind:` of a stage in a grid file -> its spec.

CONTRIBUTING.md says what a new kind needs; tests/trainers/specs/test_kinds.py holds it.
"""

from typing import Annotated

from pydantic import Field

from trainers.specs.preference import DpoSpec, RewardSpec
from trainers.specs.rlvr import RlvrSpec
from trainers.specs.training import SftSpec

KINDS: dict[str, type[SftSpec | DpoSpec | RewardSpec | RlvrSpec]] = {
    "sft": SftSpec,
    "dpo": DpoSpec,
    "reward": RewardSpec,
    "rlvr": RlvrSpec,
}

StageSpec = Annotated[SftSpec | DpoSpec | RewardSpec | RlvrSpec, Field(discriminator="kind")]
"""A stage's spec as a field of a record."""
