"""The pages of docs/ as a site, and how README reads."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.gridfile.keys import reference
from sweep.gridfile.keys.schema import GRID_KEYS
from trainers.specs.kinds import KINDS

ROOT = Path(__file__).parent.parent
MOST_WORDS = 30


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` does; a link or an anchor that leads nowhere fails it."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_in_the_site_and_in_its_navigation(site):
    first = (site / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / page.with_suffix(".html").name).exists()
        assert f'href="{page.stem}.html"' in first


def test_search_finds_a_key_of_the_grid_file(site):
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {page["location"] for page in index["docs"] if "warmup_stable_decay" in page["text"]}
    assert any(place.startswith("grid_reference.html") for place in found)


def test_site_has_a_dark_mode_and_asks_nobody_else(site):
    for page in site.glob("*.html"):
        text = page.read_text()
        assert 'data-md-color-scheme="slate"' in text
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', text)
        assert loaded == []


def test_reference_has_every_key_with_its_meaning():
    page = reference.page()
    for key in (*GRID_KEYS, *(key for spec in KINDS.values() for key in spec.model_fields)):
        row = next((line for line in page.splitlines() if line.startswith(f"| `{key}` |")), "")
        assert row.rstrip("| ").count("|") >= 3, f"{key}: no docstring"


def sentences(text: str) -> list[str]:
    """Of Markdown prose: without code, pictures and the targets of links; a cell of a table, an
    item of a list and a paragraph each end a sentence."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    blocks = re.split(r"\n\s*\n|\n(?=[-|#\d])|\|", text)
    return [part for block in blocks for part in re.split(r"(?<=[.?!])(?:\*\*)?\s+", block)]


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md"))),
    ],
)
def test_no_sentence_is_long(page):
    long = [one for one in sentences((ROOT / page).read_text()) if len(one.split()) > MOST_WORDS]
    assert long == []
