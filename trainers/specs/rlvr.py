"""The spec of RLVR: reinforcement learning with verifiable rewards."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainers.specs.fields import Count, Positive, absent
from trainers.specs.file_names import NamesFile
from trainers.specs.training import HeldoutScore, TrainingSpec

HELDOUT_REWARD = "heldout_reward"
"""Mean reward of the most probable answers to the held-out prompts."""

NEEDS_LENGTHS = ("tokens", "warmup_tokens", "adam_beta2_half_life_tokens")
"""Settings in tokens, which nobody knows before the answers are written."""


class RlvrSpec(TrainingSpec):
    """GRPO (Shao et al. 2024, arXiv 2402.03300) or RLOO (Ahmadian et al. 2024, arXiv 2402.14740):
    several completions of each prompt, rewarded by a program (trainers/rewards/graders.py), each
    against the others of its group. There is no value function, as PPO has one."""

    FORM = "prompts"
    DATA_FIELDS = ("heldout", "max_length", "chat_template", "reward")
    SCORE_FIELDS = ("max_new_tokens",)
    UNIT = "completions"
    HELDOUT = HeldoutScore(HELDOUT_REWARD, "reward", True, before=True)

    kind: Literal["rlvr"]
    algorithm: Literal["grpo", "rloo"] = "grpo"
    """`grpo`: advantage (reward - mean) / (standard deviation + 1e-4) within the group, the loss a
    mean over the batch's tokens, KL a term of the loss: the paper's estimator times the ratio to
    the policy that wrote the answer (TRL's `use_bias_correction_kl`), whose gradient is that of the
    KL. `rloo`: reward minus the mean of the others, the loss a mean over completions, KL taken off
    the reward."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """Completions of each prompt."""
    batch_size: Count
    """Completions per optimizer step, whatever the hardware: prompts x group_size, so a multiple of
    `group_size`. An epoch's last batch has the prompts that are left."""
    beta: Annotated[float, Field(ge=0)] = 0.05
    """Weight of the KL divergence from the model that the stage starts from; 0 for none."""
    temperature: Positive = 1.0
    """Of the sampling, and of the probabilities in the loss."""
    max_new_tokens: Count = 512
    """Longest completion in tokens."""
    max_length: Annotated[int, Field(ge=2)] = 2048
    """Longest prompt in tokens; a longer one is left out."""
    reward: Annotated[str | None, NamesFile("function"), Field(exclude_if=absent)] = None
    """What an answer earns: `gsm8k`, `math` or another grader (trainers/rewards/graders.py) for all
    rows, or a function of your own as `path.py:function`, called as TRL calls its reward functions:
    `function(prompts, completions, completion_ids, **columns)` returns a number for each
    completion, or None for no reward; `columns` has the row's other columns, each as a list; a
    date, a decimal or bytes there are text. There is no `trainer_state`. The file's content is part
    of a trial's key. When empty, a row's `dataset` names its grader; without one, `gsm8k` where the
    truth is a number and `math` where it is not."""
    reward_model: Annotated[str | None, NamesFile("model")] = None
    """Folder of a reward model, whose score is added to the verified reward ..."""
    reward_model_weight: Annotated[float, Field(ge=0)] = 1.0
    """... with this weight."""
    heldout: Annotated[int, Field(ge=0)] | None = None
    """Prompts kept out of training, the same for every trial; the reward of the most probable
    answers to them is the benchmark `heldout_reward`. When empty, 200, and at most a tenth of the
    data."""
    noise_scale_every: Annotated[int, Field(ge=0, le=0)] = 0
    """Not measured: the completions of a group are no independent examples."""

    @property
    def longest_text(self) -> int:
        return self.max_length + self.max_new_tokens

    @property
    def examples_per_row(self) -> int:
        return self.group_size

    @property
    def unread(self) -> dict[str, str]:
        alone = {} if self.reward_model else {"reward_model_weight": "there is no reward_model"}
        return super().unread | alone

    @model_validator(mode="after")
    def _whole_groups(self):
        size = self.group_size
        if self.batch_size % size:
            raise ValueError(
                f"batch_size {self.batch_size} counts completions, {size} of each prompt "
                f"(group_size): use a multiple of {size}, as {size}, {2 * size} or {4 * size}"
            )
        return self

    @model_validator(mode="after")
    def _no_dropout(self):
        if self.adapter is not None and self.adapter.dropout:
            raise ValueError(
                "adapter.dropout has no place here: the loss compares probabilities of one policy, "
                "with and without it they are two; use 0"
            )
        return self

    @model_validator(mode="after")
    def _no_lengths(self):
        for name in NEEDS_LENGTHS:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name} is not known before the completions are written; use epochs or steps, "
                    "warmup_ratio or warmup_steps, adam_beta2"
                )
        return self
