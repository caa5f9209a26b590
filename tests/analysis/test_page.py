"""The report in a real browser, from disk."""

import shutil
from pathlib import Path

import planted_audit
import pytest

from analysis import report

QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver on this machine")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for argument in QUIET:
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(browser, chain_run) -> Path:
    path = chain_run.path / "report" / "index.html"
    browser.get(path.as_uri())
    return path


@pytest.fixture(scope="module")
def audit_page(tmp_path_factory) -> Path:
    return report.write_audit(planted_audit.folder(tmp_path_factory.mktemp("page") / "audit"))


def test_page_opens_without_a_word_on_the_console(browser, page):
    assert browser.get_log("browser") == []
    assert "chain" in browser.title


def test_every_figure_is_drawn(browser, page):
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('img, figure svg')].map("
        "e => e.getBoundingClientRect().width)"
    )
    assert sizes
    assert all(width > 100 for width in sizes)


def test_every_link_of_the_page_leads_to_a_file(browser, page):
    links = browser.execute_script("return [...document.querySelectorAll('a')].map(a => a.href)")
    files = [link.removeprefix("file://") for link in links if link.startswith("file://")]
    assert files
    assert [file for file in files if not Path(file.split("#")[0]).exists()] == []


@pytest.mark.parametrize("width", [420, 1200])
def test_page_does_not_scroll_sideways(browser, page, width):
    browser.set_window_size(width, 900)
    inner, whole = browser.execute_script(
        "return [document.documentElement.clientWidth, document.documentElement.scrollWidth]"
    )
    assert whole <= inner


@pytest.mark.parametrize("width", [420, 1200])
def test_audit_page_opens_quietly_and_does_not_scroll_sideways(browser, audit_page, width):
    browser.get(audit_page.as_uri())
    browser.set_window_size(width, 900)
    inner, whole, marked = browser.execute_script(
        "const root = document.documentElement;"
        "return [root.clientWidth, root.scrollWidth, document.querySelectorAll('mark').length]"
    )
    assert browser.get_log("browser") == []
    assert whole <= inner
    assert marked > 0
