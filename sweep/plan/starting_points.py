"""Where published settings put the optimum, for the axes of a new grid.

Each kind of training has two published settings of one model of 1.7 billion parameters: the middle
of the axes is their geometric mean. Other sizes follow Step Law's exponent, the learning rate as
N^-0.713 (arXiv 2503.04715).
"""

import math
from typing import NamedTuple

ANCHOR_PARAMETERS = 1_711_376_384
"""Of SmolLM2-1.7B, which SmolTulu tunes (arXiv 2412.08347)."""

EXPONENT = -0.713
STEP_LAW = "Step Law (arXiv 2503.04715): LR ~ N^-0.713"


class Setting(NamedTuple):
    learning_rate: float
    batch_size: int


class Published(NamedTuple):
    settings: tuple[Setting, Setting]
    source: str
    data: str
    benchmarks: str
    keys: tuple[str, ...]
    """Lines of the stage beside its data, budget and axes."""
    keys_source: str
    tokens_per_example: int
    """A guess before the data is seen."""


PUBLISHED = {
    "sft": Published(
        (Setting(9.0e-5, 8), Setting(3.1e-6, 32)),
        "SmolTulu, table 2 (arXiv 2412.08347): SFT-1130 at 9e-5 / 8, SFT-1207 at 3.1e-6 / 32",
        "allenai/tulu-3-sft-mixture",
        "arc,gsm8k,hellaswag,ifeval",
        ("max_length: 2048", "schedule: linear", "warmup_ratio: 0.03"),
        "Tulu 3's SFT (arXiv 2411.15124)",
        700,
    ),
    "dpo": Published(
        (Setting(8.0e-7, 12), Setting(5.0e-7, 32)),
        "SmolTulu, table 5 (arXiv 2412.08347): DPO-1130 at 8e-7 / 12, DPO-1207 at 5e-7 / 32",
        "allenai/llama-3.1-tulu-3-8b-preference-mixture",
        "arc,gsm8k,hellaswag,ifeval",
        ("loss: dpo_norm", "beta: 5.0", "max_length: 2048", "warmup_ratio: 0.1"),
        "Tulu 3's DPO (arXiv 2411.15124)",
        1000,
    ),
    "reward": Published(
        (Setting(4.0e-5, 4), Setting(7.5e-7, 8)),
        "SmolTulu, table 7 (arXiv 2412.08347): RM-1130 at 4e-5 / 4, RM-1207 at 7.5e-7 / 8",
        "allenai/llama-3.1-tulu-3-8b-preference-mixture",
        "",
        ("max_length: 2048",),
        "SmolTulu's and Tulu 3's reward models (arXiv 2411.15124)",
        1000,
    ),
    "rlvr": Published(
        (Setting(3.0e-6, 32), Setting(3.0e-6, 32)),
        "SmolTulu-Reinforced's model card: PPO at 3e-6 / 32",
        "allenai/RLVR-GSM-MATH-IF-Mixed-Constraints",
        "gsm8k,ifeval",
        (
            "algorithm: grpo",
            "group_size: 8",
            "beta: 0.05",
            "max_new_tokens: 512",
            "max_length: 2048",
            "schedule: constant",
        ),
        "Tulu 3's RLVR (arXiv 2411.15124), with GRPO in PPO's place",
        600,
    ),
}


def centre(kind: str, parameters: float) -> Setting:
    """The middle of the axes: learning rate, and batch size as a power of two."""
    low, high = PUBLISHED[kind].settings
    rate = math.sqrt(low.learning_rate * high.learning_rate)
    rate *= (parameters / ANCHOR_PARAMETERS) ** EXPONENT
    batch = math.sqrt(low.batch_size * high.batch_size)
    return Setting(rate, 2 ** round(math.log2(batch)))
