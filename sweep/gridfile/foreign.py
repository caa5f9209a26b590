"""Keys and values as other tools write them -> what they are called here."""

import difflib
import re
from collections.abc import Sequence

from sweep.gridfile.foreign_words import (
    ADAPTER,
    IN_4_BITS,
    NOT_NEEDED,
    NOT_THERE,
    OURS,
    OURS_IN_RLVR,
    OURS_OFF,
    VALUES,
)

FEW = 12
"""Allowed keys that fit into a message."""

TYPO = 0.75
"""How alike (difflib's ratio) an unknown key is at least to the one that it misspells. `epsilon`
and `adam_epsilon`, which share a word and mean two things, are at 0.74."""


def hint(key: str, allowed: Sequence[str], off: bool = False) -> str:
    """What an unknown key may mean, in one line; `off` where its value is false."""
    lower = key.lower().replace("-", "_")
    in_4_bits = lower in IN_4_BITS or lower.startswith("bnb_")
    if off and (lower in OURS or in_4_bits) and lower not in OURS_OFF:
        return "leave it out, which is the same as false"
    translated = OURS | OURS_IN_RLVR if "group_size" in allowed else OURS
    ours = OURS_OFF.get(lower) if off else translated.get(lower)
    if ours is not None and _first_word(ours) in {*allowed, "tracking", "grid"}:
        return f"did you mean {_quoted(ours)}?"
    part = ADAPTER.get(lower)
    if part in allowed:
        return f"did you mean `{part}`?"
    if part is not None and "adapter" in allowed:
        return f"did you mean `adapter: {{{part}: ...}}`?"
    if part is not None and f"adapter.{part}" in allowed:
        return f"did you mean `adapter.{part}`?"
    if in_4_bits:
        return _in_4_bits(allowed)
    if lower in NOT_NEEDED:
        return f"not needed: {NOT_NEEDED[lower]}"
    if lower in NOT_THERE:
        return f"not supported: {NOT_THERE[lower]}"
    alike = [name for name in allowed if name.lower() == lower]
    near = alike or difflib.get_close_matches(lower, allowed, n=1, cutoff=TYPO)
    if near:
        return f"did you mean `{near[0]}`?"
    if len(allowed) <= FEW:
        return f"use one of {', '.join(sorted(allowed))}"
    return f"none of the {len(allowed)} keys here is like it; grids/grid.schema.json lists them"


def value_hint(key: str, value: object, allowed: str) -> str | None:
    """What a value of another tool's may mean, in one line, where it is among the `allowed` ones
    as pydantic lists them."""
    ours = VALUES.get(key, {}).get(str(value).lower())
    if ours is None or f"'{_first_word(ours)}'" not in allowed:
        return None
    return f"did you mean {_quoted(ours)}?"


def _in_4_bits(allowed: Sequence[str]) -> str:
    if "base_weights" in allowed:
        return "did you mean `base_weights: nf4`?"
    if "adapter.base_weights" in allowed:
        return "did you mean `adapter.base_weights: [nf4]`?"
    of_stage = "" if "adapter" in allowed else " of a stage"
    return f"did you mean `adapter: {{base_weights: nf4}}`{of_stage}?"


def _first_word(ours: str) -> str:
    return re.split(r"[ ,:]", ours)[0]


def _quoted(ours: str) -> str:
    word = _first_word(ours)
    return f"`{word}`{ours[len(word) :]}"


POWER = re.compile(r"(?:([0-9.]+)\*)?10(?:\*\*|\^)\(?(-?[0-9]+)\)?")


def number(text: str) -> str | None:
    """A number that stands in quotes, or is written as a power of ten, as YAML has it."""
    plain = text.strip().replace(" ", "").replace(",", "")
    if power := POWER.fullmatch(plain):
        return f"{float(power[1] or 1):g}e{power[2]}"
    try:
        float(plain)
    except ValueError:
        return None
    return plain
