"""Specs of the stages that learn from pairs: DPO and reward models."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainers.specs.fields import Count, Positive
from trainers.specs.training import HeldoutScore, TrainingSpec

PAIR_ACCURACY = "pair_accuracy"
"""Share of held-out pairs whose chosen answer the reward model, or the policy beside its reference,
puts above the rejected one."""

RANKING_ACCURACY = "ranking_accuracy"
"""Share of held-out pairs whose chosen answer has the larger log-probability per token under the
policy, whatever its reference (Chen et al. 2024, arXiv 2405.19534)."""


class PairSpec(TrainingSpec):
    """Training on pairs of answers, one chosen and one rejected."""

    FORM = "pairs"
    UNIT = "pairs"
    HAS_LANES = True

    batch_size: Count
    """Pairs per optimizer step, whatever the hardware."""
    max_length: Annotated[int, Field(ge=2)] = 2048
    """Longest text in tokens, the prompt with either answer; what lies beyond is cut off."""


class DpoSpec(PairSpec):
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290); the reference is the
    model that the stage starts from."""

    HELDOUT = HeldoutScore(
        "heldout_loss",
        "loss",
        False,
        before=False,
        unit_of=("loss", "beta"),
        in_one_unit=HeldoutScore(PAIR_ACCURACY, "accuracy", True, before=False),
        without_reference=HeldoutScore(RANKING_ACCURACY, RANKING_ACCURACY, True, before=False),
    )

    NEEDS_REFERENCE = True

    kind: Literal["dpo"]
    loss: Literal["dpo_norm", "sigmoid"] = "dpo_norm"
    """-log sigmoid(beta * difference of the log-ratios), each log-ratio per answer token
    (`dpo_norm`, Tulu 3's; TRL calls it `sigmoid_norm`) or summed over the answer (`sigmoid`)."""
    beta: Positive = 5.0
    """How far the policy is held to the reference. 5 is Tulu 3's for `dpo_norm`; `sigmoid`, whose
    sums are larger, has no default: 0.1 is usual."""
    heldout: Annotated[int, Field(ge=0)] | None = None
    """Pairs kept out of training, the same for every trial; their loss against the same reference
    is the benchmark `heldout_loss`. Losses with unlike `loss` or `beta` are in unlike units: in a
    stage with several it is `pair_accuracy`, the share of pairs whose chosen answer has the larger
    log-ratio, per token or summed as the `loss` has it. In a stage that starts from models of
    several settings both are relative to unlike references: there it is `ranking_accuracy`, the
    share of pairs whose chosen answer has the larger log-probability per token. When empty, 200,
    and at most a tenth of the data."""

    @property
    def unread(self) -> dict[str, str]:
        """The pass of the reference saves by the minute, whatever the training does."""
        unread = super().unread
        return {name: why for name, why in unread.items() if name != "save_every_minutes"}

    @model_validator(mode="after")
    def _beta_of_the_loss(self):
        if self.loss == "sigmoid" and "beta" not in self.model_fields_set:
            raise ValueError(
                "loss: sigmoid needs a `beta`: 0.1 is usual, and a run that was begun without one "
                "has dpo_norm's, beta: 5.0; for both losses use arms: [{name: dpo_norm}, {name: "
                "sigmoid, set: {loss: sigmoid, beta: 0.1}}]"
            )
        return self


class RewardSpec(PairSpec):
    """A reward model: a scalar head on a policy, trained by -log sigmoid(chosen - rejected)."""

    LEAVES = "reward"
    HELDOUT = HeldoutScore(PAIR_ACCURACY, "accuracy", True, before=False)

    kind: Literal["reward"]
    heldout: Annotated[int, Field(ge=0)] | None = None
    """Pairs kept out of training, the same for every trial; the benchmark `pair_accuracy`. When
    empty, 200, and at most a tenth of the data."""
