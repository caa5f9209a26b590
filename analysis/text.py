"""How numbers and lists are written in reports and on axes."""

from collections.abc import Sequence

import numpy as np


def rate(value: float) -> str:
    """A learning rate or LR/BS ratio: 3e-4, 1.2e-5; plain from a hundredth."""
    return number(value, smallest=1e-2)


def number(value: float, digits: int = 2, smallest: float = 1e-3) -> str:
    """A short figure: plain from `smallest` up to a hundred thousand, else 3e-4."""
    if value == 0 or not np.isfinite(value):
        return "0" if value == 0 else str(value)
    if smallest <= abs(value) < 1e5:
        places = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
        text = f"{value:.{places}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"


def probability(value: float) -> str:
    """Two decimals, never claiming the certainty that a thousand draws cannot give."""
    if value > 0.99 or value < 0.01:
        return "above 0.99" if value > 0.99 else "below 0.01"
    return f"{value:.2f}"


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """a; a and b; a, b and c."""
    if separator != ", " or len(names) < 2:
        return separator.join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def counted(count: int, noun: str) -> str:
    """1 seed; 3 seeds; 4 batch sizes."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def title(stage: str, arm: str = "") -> str:
    """A stage's name for a heading: SFT, DPO (equal_steps)."""
    short = {
        "all": "All trials",
        "sft": "SFT",
        "dpo": "DPO",
        "rlvr": "RLVR",
        "reward": "Reward model",
    }
    name = short.get(stage, stage.replace("_", " ").capitalize())
    return f"{name} ({arm})" if arm else name


def safe(text: str) -> str:
    """Letters, digits, dots and underscores, for names of files and elements."""
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in text)
