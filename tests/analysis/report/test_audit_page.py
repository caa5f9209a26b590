"""The audit's tables beside the paper's, and its page."""

import re
from pathlib import Path

import pytest

from analysis.audit import published, tables
from analysis.report import build
from tests.analysis import planted_audit
from tests.analysis.planted_audit import CONTAMINATION, LANGUAGES


@pytest.fixture
def folder(tmp_path) -> Path:
    return planted_audit.folder(tmp_path / "audit")


def test_our_benchmarks_stand_beside_the_paper_s_and_its_others_follow():
    rows = {row.name: row for row in tables.benchmark_rows(CONTAMINATION)}
    assert list(rows)[:3] == ["gsm8k", "mmlu_pro", "mine"]
    assert set(published.CONTAMINATION) < set(rows)
    assert rows["gsm8k"].paper == (0.08, 0.0, 0.0)
    assert [row["contaminated"] for row in rows["gsm8k"].ours] == [2, 0, 2]
    assert rows["mine"].paper == (None, None, None)
    assert rows["mmlu"].ours == []


def test_a_sample_of_a_benchmark_has_an_interval():
    rows = {row.name: row for row in tables.benchmark_rows(CONTAMINATION)}
    assert tables.share_parts(rows["gsm8k"].ours[0]) == ("0.15", "2 of 1319")
    sampled = tables.share_parts(rows["mmlu_pro"].ours[0])
    assert sampled == ("0.14", "2 of 1400, 0.01 to 0.40 %")


def test_shares_of_languages_are_over_the_twenty_and_over_all():
    rows = {row.name: row for row in tables.language_rows(LANGUAGES)}
    assert len(published.LANGUAGES) == 20
    assert list(rows)[20:] == ["other: fi", "code", "mathematics", "undetermined"]
    assert rows["English"].shares == [(6 / 8, 6 / 10, 0.6)]
    assert rows["English"].paper == (83.13, 86.24, 94.80)
    assert rows["other: fi"].shares == [(None, 0.1, 0.1)]
    assert rows["code"].shares == [(None, 0.1, 0.195)]
    assert rows["mathematics"].shares == [(None, 0.0, 0.005)]
    assert rows["Thai"].paper == (0.10, 0.10, None)


@pytest.mark.parametrize(
    ("column", "total"), [(0, 99.99), (1, 100.01), (2, 100.0)], ids=published.STAGES
)
def test_the_paper_s_languages_sum_to_about_a_hundred(column, total):
    """To the hundredth, as printed: a figure mistyped here would show."""
    found = sum(shares[column] or 0 for _, shares in published.LANGUAGES.values())
    assert found == pytest.approx(total, abs=0.005)


def test_what_is_not_zero_does_not_show_as_zero():
    assert [tables.percent(share) for share in (0, 1e-6, 0.00005, 0.5, None)] == [
        "0.00", "< 0.01", "0.01", "50.00", "-",
    ]  # fmt: skip


def test_page_shows_pairs_side_by_side_with_the_overlap_marked(folder):
    text = build.write_audit(folder).read_text()
    assert "<mark>bought &lt;stamps&gt; at the post office</mark>" in text
    assert text.count('<div class="words">') == tables.PAIRS_SHOWN + 1
    assert "gsm8k in talks: 25, the first 20 here" in text
    assert "&lt;b&gt;more" in text and "<b>more" not in text


def test_page_counts_an_item_once_however_often_it_is_in_the_data(folder):
    text = build.write_audit(folder).read_text()
    assert "Contaminated items: 1<" in text
    assert text.count('<th class="number">all of it</th>') == 1


def test_page_has_the_rows_that_cannot_be_read(folder):
    text = build.write_audit(folder).read_text()
    assert '<td class="number">10</td><td class="number">3</td>' in text
    assert "10 conversations, 3 rows that cannot be read, in" in text


def test_page_asks_nothing_of_the_network_and_its_links_lead_somewhere(folder):
    page = build.write_audit(folder)
    text = page.read_text()
    assert not re.search(r"<(script|link|img|iframe)\b|@import|\bsrc=|https?://", text)
    links = re.findall(r'<a href="([^"]+)"', text)
    assert links
    assert all((page.parent / link).exists() for link in links), links


@pytest.mark.parametrize("missing", ["contamination.json", "languages.json"])
def test_page_of_one_audit_alone(folder, missing):
    (folder / missing).unlink()
    text = build.write_audit(folder).read_text()
    assert ("Contamination</h2>" in text) is (missing != "contamination.json")
    assert ("Languages</h2>" in text) is (missing != "languages.json")


def test_a_folder_without_records_is_none(tmp_path):
    assert tables.read(tmp_path) is None
