"""The words of a report's page: short sentences, and nothing that only the code understands."""

import html
import re
from pathlib import Path

import pytest

from analysis.report import build
from tests.analysis.planted import bowl, table

MOST_WORDS = 30
UNREAD = re.compile(r"<(style|script|svg|pre)\b.*?</\1>", re.DOTALL)
BLOCK = re.compile(
    r"</?(?:p|li|dd|dt|td|th|h\d|tr|summary|div|figure|figcaption|caption|label|option)\b[^>]*>"
)
CODES = ("too_few", "Rivals", "rivals", "{'", "[{")


@pytest.fixture(scope="module")
def texts(tmp_path_factory, chain_run) -> list[str]:
    """The blocks of text on the pages of a planted table and of a run."""
    folder = tmp_path_factory.mktemp("words")
    table(bowl).to_csv(folder / "planted.csv", index=False)
    pages = [build.write(folder / "planted.csv"), build.write(chain_run.path, folder / "run")]
    return [text for page in pages for text in blocks(page)]


def blocks(page: Path) -> list[str]:
    body = UNREAD.sub("", page.read_text(encoding="utf-8")).partition("<body>")[2]
    parts = (html.unescape(re.sub(r"<[^>]+>", "", part)) for part in BLOCK.split(body))
    return [text for part in parts if (text := " ".join(part.split()))]


def test_no_sentence_of_the_page_is_long(texts):
    sentences = [one for text in texts for one in re.split(r"(?<=[.?!])\s+", text)]
    assert len(sentences) > 100
    assert [one for one in sentences if len(one.split()) > MOST_WORDS] == []


def test_page_has_no_names_of_the_code(texts):
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(code)}" for code in CODES))
    assert [text for text in texts if pattern.search(text)] == []
