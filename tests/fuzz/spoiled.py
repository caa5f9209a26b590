"""Right inputs, spoiled: what Hypothesis draws."""

import re

from hypothesis import strategies as st

VALUES = (
    "", "0", "-1", "2.5", "1e400", "-1e-320", "nan", ".inf", "-.inf", "9" * 40, "0x10", "1_000",
    "1,5", "true", "no", "null", "~", "''", '"', "[]", "{}", "[[1]]", "{a: 1}", "- -", ": :",
    "2026-01-01", "&a [*a]", "*a", "!!python/object/apply:os.system [id]", "../../x", "/", ".",
    "C:\\x", "s3://x/y", "a" * 3000, "é", "\u202e", "\x00", "\ufeff", "\u2028", "💥", "%s", "{}{0}",
    "$(id)", "'; --",
)  # fmt: skip
"""What stands in for a word."""

WORD = re.compile(r"[^\s:,\[\]{}\"']+")
MOST_CHANGES = 3


@st.composite
def text(draw: st.DrawFn, originals: tuple[str, ...]) -> str:
    """One of `originals` with up to three changes of words, lines or characters."""
    spoiled = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(1, MOST_CHANGES))):
        spoiled = draw(st.sampled_from((_word, _word, _lines, _cut, _character)))(draw, spoiled)
    return spoiled


def _word(draw: st.DrawFn, original: str) -> str:
    words = list(WORD.finditer(original))
    if not words:
        return draw(st.sampled_from(VALUES))
    word = words[draw(st.integers(0, len(words) - 1))]
    new = draw(st.one_of(st.sampled_from(VALUES), st.just(words[0].group()), st.text(max_size=6)))
    return original[: word.start()] + new + original[word.end() :]


def _lines(draw: st.DrawFn, original: str) -> str:
    """A line left out, doubled, moved in, or put elsewhere."""
    lines = original.split("\n")
    place = draw(st.integers(0, len(lines) - 1))
    change = draw(st.sampled_from(("drop", "double", "indent", "move")))
    line = lines.pop(place)
    if change == "double":
        lines[place:place] = [line, line]
    elif change == "indent":
        lines.insert(place, " " * draw(st.integers(1, 4)) + line)
    elif change == "move":
        lines.insert(draw(st.integers(0, len(lines))), line)
    return "\n".join(lines)


def _cut(draw: st.DrawFn, original: str) -> str:
    return original[: draw(st.integers(0, len(original)))]


def _character(draw: st.DrawFn, original: str) -> str:
    place = draw(st.integers(0, len(original)))
    return original[:place] + draw(st.characters()) + original[place:]
