"""How numbers and lists are written in reports and on axes."""

from collections.abc import Sequence
from typing import NamedTuple

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


NOTHING = "nothing"
"""An amount below what is written."""


def decimal_places(error: float) -> int:
    """Of a score, no finer than a tenth of its standard error; 3 where none is known."""
    if not np.isfinite(error) or error <= 0:
        return 3
    places = np.ceil(-np.log10(error))
    return int(np.clip(places + (error * 10**places < 2.5), 1, 5))


def probability(value: float) -> str:
    """Two decimals, never claiming the certainty that a thousand draws cannot give."""
    if value > 0.99 or value < 0.01:
        return "above 0.99" if value > 0.99 else "below 0.01"
    return f"{value:.2f}"


def signed(value: float, places: int = 1) -> str:
    """+1.4; -0.3; 0.0, never -0.0."""
    text = f"{value:+.{places}f}"
    return text[1:] if float(text) == 0 else text


def percent(value: float) -> str:
    """12%; less than 1%."""
    return f"{value:.0%}" if value >= 0.005 or value == 0 else "less than 1%"


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


def with_interval(value: float, low: float, high: float) -> str:
    """1.1e-3 (6.5e-4 to 1.8e-3): a rate or ratio with as many digits as its interval supports."""
    middle, start, end = rounded(value, low, high)
    return f"{middle} ({start} to {end})"


def rounded(value: float, low: float, high: float) -> tuple[str, str, str]:
    """A rate or ratio and its bounds: one digit where the interval spans two octaves or more (a
    factor of 4), three where it spans 5 % or less, else two."""
    span = high / low if low > 0 else np.inf
    digits = 1 if span >= 4 else 3 if span < 1.05 else 2
    middle, start, end = (number(one, digits, smallest=1e-2) for one in (value, low, high))
    return middle, start, end


class Unit(NamedTuple):
    """How differences of a metric are written: `points` for shares between 0 and 1, whose
    hundredths are points, else the metric's own units, of which `least` is worth telling."""

    name: str
    points: bool
    least: float = 0.0

    def amount(self, value: float) -> str:
        """0.8 points; 0.012 of loss; less than 0.1 points."""
        shown = 100 * abs(value) if self.points else abs(value)
        if shown < 1e-9:
            return NOTHING
        if self.points and shown < 0.05:
            return "less than 0.1 points"
        if not self.points and shown < self.least:
            return f"less than {number(self.least, 1, smallest=1e-5)} of {self.name}"
        text = f"{shown:.1f}" if self.points and shown < 10 else number(shown, smallest=1e-5)
        return f"{text} points" if self.points else f"{text} of {self.name}"

    def signed(self, value: float, stderr: float | None = None) -> str:
        """+7.5 ± 1.2 points; +55 ± 7 points; -0.12 ± 0.03, rounded to what the error supports."""
        scale = 100 if self.points else 1
        places = 1
        if not self.points:
            size = stderr or abs(value) or 1.0
            places = int(np.clip(1 - np.floor(np.log10(size)), 0, 6))
        elif stderr is not None and scale * stderr >= 3:
            places = 0
        error = "" if stderr is None else f" ± {scale * stderr:.{places}f}"
        return f"{signed(scale * value, places)}{error}{' points' if self.points else ''}"
