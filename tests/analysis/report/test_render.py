"""The report in a real browser, from disk."""

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from analysis.figures.training_curves import cell_name
from analysis.report import build
from tests.analysis import planted_audit
from tests.analysis.planted import table


@pytest.fixture(scope="module")
def page(browser, chain_run) -> Path:
    path = chain_run.path / "report" / "index.html"
    browser.get(path.as_uri())
    return path


@pytest.fixture
def explorer(browser, planted_report):
    """The interactive figures, drawn."""
    browser.get_log("browser")
    browser.set_window_size(1200, 1000)
    browser.get(planted_report.as_uri())
    browser.execute_script("document.querySelector('.explorer').scrollIntoView()")
    wait(browser, "document.querySelector('.explorer').dataset.drawn === 'yes'")
    return browser


def until(browser, condition) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20, poll_frequency=0.05).until(condition)


def wait(browser, condition: str) -> None:
    until(browser, lambda b: b.execute_script(f"return {condition}"))


@pytest.fixture(scope="module")
def audit_page(tmp_path_factory) -> Path:
    return build.write_audit(planted_audit.folder(tmp_path_factory.mktemp("page") / "audit"))


def test_page_opens_with_an_empty_console(browser, page):
    assert browser.get_log("browser") == []
    assert "chain" in browser.title


def test_every_figure_is_drawn(browser, page):
    sizes = browser.execute_script(
        "document.querySelectorAll('details').forEach(e => e.open = true);"
        "return [...document.querySelectorAll('img, figure > svg')].map("
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


def test_interactive_figures_are_drawn_with_an_empty_console_and_no_request(explorer):
    drawn = explorer.execute_script(
        "return [...document.querySelectorAll('.explorer .main-svg')].map("
        "e => e.getBoundingClientRect().width)"
    )
    assert len(drawn) >= 2 and all(width > 200 for width in drawn)
    asked = explorer.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [name for name in asked if not name.startswith(("data:", "blob:", "file:"))] == []
    assert explorer.get_log("browser") == []


def test_every_cell_tells_its_numbers_where_it_is_pointed_at(explorer):
    texts = explorer.execute_script(
        "return document.querySelector('.explorer .contour').data"
        ".filter(t => ['measured cell', 'diverged', 'failed, no score'].includes(t.name))"
        ".flatMap(t => t.hovertemplate)"
    )
    assert len(texts) == 19
    for text in texts:
        assert "learning rate" in text and "batch size" in text and "LR/BS" in text
        assert "seed" in text
    assert sum("±" in text and "60 items" in text for text in texts) == 17
    assert sum("loss is nan at step 3" in text for text in texts) == 1
    assert sum("MemoryError: 2 GB wanted" in text for text in texts) == 1


def test_benchmark_and_layers_are_chosen_by_keyboard(explorer):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    select = explorer.find_element(By.CSS_SELECTOR, ".explorer .benchmark")
    first = explorer.find_element(By.CSS_SELECTOR, ".explorer .said").text
    select.send_keys(Keys.END)
    said = explorer.find_element(By.CSS_SELECTOR, ".explorer .said").text
    assert said != first and said.startswith("Held-out loss")
    label = explorer.find_element(By.CSS_SELECTOR, ".explorer .contour").get_attribute("aria-label")
    assert label.startswith("Held-out loss, SFT")
    names = "return document.querySelector('.explorer .contour').data.map(t => t.name)"
    assert "square-root rule" not in explorer.execute_script(names)
    rules = explorer.find_element(By.CSS_SELECTOR, ".layer[value=rules]")
    rules.send_keys(Keys.SPACE)
    assert "square-root rule" in explorer.execute_script(names)
    assert "lower is better" in explorer.execute_script(
        "return document.querySelector('.explorer .scores').layout.yaxis.title.text"
    )
    assert explorer.get_log("browser") == []


def test_the_region_of_the_best_setting_is_drawn_where_one_is_identified(explorer, planted_report):
    record = json.loads((planted_report.parent / "recommendations.json").read_text())
    optima = record["stages"]["sft"]["optimum"]
    known = {name for name, one in optima.items() if one["status"] == "identified"}
    assert known
    for name in optima:
        drawn = explorer.execute_script(
            "const select = document.querySelector('.explorer .benchmark');"
            f"select.value = '{name}'; select.dispatchEvent(new Event('change'));"
            "return document.querySelector('.explorer .contour').data.map(t => t.name)"
        )
        assert ("95 % region of that setting" in drawn) == (name in known), name


def test_the_right_chart_is_chosen_by_its_list(explorer):
    title = "return document.querySelector('.explorer .scores').layout.xaxis.title.text"
    assert explorer.execute_script(title) == "learning rate"
    explorer.execute_script(
        "const select = document.querySelector('.explorer .kind');"
        "select.value = 'ratio'; select.dispatchEvent(new Event('change'));"
    )
    assert explorer.execute_script(title) == "learning rate / batch size"


def test_no_error_bar_leaves_its_chart(explorer):
    cut = explorer.execute_script(
        "const {data, layout} = document.querySelector('.explorer .scores');"
        "const [low, high] = layout.yaxis.range;"
        "return data.filter(t => t.error_y && t.yaxis !== 'y2').flatMap(t => t.y.filter("
        "(y, i) => y + t.error_y.array[i] > high || y - t.error_y.array[i] < low))"
    )
    assert cut == []


def test_scores_of_each_benchmark_are_one_click_away(explorer):
    shown = (
        "return [...document.querySelectorAll('.tab')].filter(e => e.offsetHeight > 0)"
        ".map(e => e.querySelectorAll('td').length)"
    )
    assert explorer.execute_script(shown) == [20]
    explorer.execute_script("document.querySelectorAll('.tabs label')[4].click()")
    assert explorer.execute_script(shown) == [20]
    assert "loss (lower is better)" in explorer.execute_script(
        "return [...document.querySelectorAll('.tab')].find(e => e.offsetHeight > 0).textContent"
    )


def test_a_cell_shows_its_training_curve(browser, page):
    browser.get(page.as_uri())
    browser.execute_script("document.querySelector('.explorer').scrollIntoView()")
    wait(browser, "document.querySelector('.explorer').dataset.drawn === 'yes'")
    names = browser.execute_script(
        "document.querySelector('.training').open = true;"
        "return [...document.querySelector('.cell').options].map(o => o.value)"
    )
    assert "0.001 x 4" in names
    browser.execute_script(
        "const select = document.querySelector('.cell');"
        "select.value = '0.001 x 4'; select.dispatchEvent(new Event('change'));"
    )
    widths = browser.execute_script(
        "return document.querySelector('.curves').data.map(t => [t.cell, t.line.width])"
    )
    assert {cell: width > 2 for cell, width in widths}["0.001 x 4"]


def test_a_click_on_a_cell_chooses_its_curve(browser, page):
    browser.get(page.as_uri())
    browser.execute_script("document.querySelector('.explorer').scrollIntoView()")
    wait(browser, "document.querySelector('.explorer').dataset.drawn === 'yes'")
    cells, names = browser.execute_script(
        "const {dataset} = document.querySelector('.explorer');"
        "const [surface] = JSON.parse(document.getElementById(dataset.surfaces).textContent);"
        "return [surface.cells, surface.names]"
    )
    pairs = zip(cells["learning_rate"], cells["batch_size"], strict=True)
    assert names == [cell_name(learning_rate, size) for learning_rate, size in pairs]
    chosen = browser.execute_script(
        "const chart = [...document.querySelectorAll('.explorer .js-plotly-plot')]"
        ".find(e => e.data?.some(t => t.customdata?.length));"
        "const trace = chart.data.find(t => t.customdata && t.customdata.length);"
        "chart.emit('plotly_click', {points: [{data: trace, pointNumber: 0}]});"
        "return [document.querySelector('.cell').value, trace.customdata[0]]"
    )
    assert chosen[0] == names[chosen[1]]


def test_cells_are_a_table_and_a_download_too(explorer):
    rows, lines = explorer.execute_script(
        "const made = []; const before = URL.createObjectURL;"
        "URL.createObjectURL = blob => { made.push(blob); return 'data:,'; };"
        "document.querySelector('.explorer .download').click();"
        "URL.createObjectURL = before;"
        "return made[0].text().then(text => ["
        "document.querySelectorAll('.explorer .cells tbody tr').length,"
        "text.trim().split('\\n')])"
    )
    assert rows == 19 and len(lines) == 20
    assert lines[0].startswith("learning_rate,batch_size,value,stderr")


def test_grid_file_is_copied_by_its_button(explorer):
    expected = explorer.execute_script("return document.querySelector('.snippet code').textContent")
    assert expected.startswith("stages:") or "learning_rate: [" in expected
    explorer.execute_script(
        "document.querySelectorAll('details').forEach(e => e.open = true);"
        "navigator.clipboard.writeText = async text => { window.copied = text };"
        "document.querySelector('.snippet button').click()"
    )
    wait(explorer, "document.querySelector('.snippet button').textContent === 'Copied'")
    assert explorer.execute_script("return window.copied") == expected


def test_the_next_grid_file_has_a_copy_button(browser, tmp_path):
    source = tmp_path / "table.csv"
    table(lambda x, y: 0.03 * x, noise=0.002).to_csv(source, index=False)
    browser.get(build.write(source).as_uri())
    browser.execute_script(
        "document.querySelector('.decide').open = true;"
        "navigator.clipboard.writeText = async text => { window.copied = text };"
    )
    browser.find_element("css selector", "button[data-copies='all-next']").click()
    wait(browser, "document.querySelector('[data-copies=all-next]').textContent === 'Copied'")
    copied = YAML(typ="safe").load(browser.execute_script("return window.copied"))
    assert max(copied["stages"]["all"]["grid"]["learning_rate"]) > 1e-2


@pytest.mark.parametrize("width", [420, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_fits_the_window_and_is_legible_in_both_schemes(explorer, width, scheme):
    explorer.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    explorer.set_window_size(width, 900)

    def contrast(browser) -> bool:
        page, text = browser.execute_script(
            "const tick = document.querySelector('.explorer .xtick text');"
            "return [getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(tick).fill]"
        )
        return abs(brightness(page) - brightness(text)) > 120

    until(explorer, contrast)  # the figures are drawn anew for the scheme
    inner, whole = explorer.execute_script(
        "const root = document.documentElement; return [root.clientWidth, root.scrollWidth]"
    )
    explorer.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert whole <= inner


def brightness(colour: str) -> float:
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3


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
