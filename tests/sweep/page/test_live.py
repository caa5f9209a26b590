"""The page while a run goes on, in a real browser, from disk and over HTTP."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.page import live, serve
from sweep.plan import trials as plan
from sweep.storage.run_folder import RunFolder, plan_csv
from sweep.storage.run_log import NAME as LOG
from trainers import files

ROOT = Path(__file__).parents[3]

GRID = """\
name: seen
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 300}
    steps: 75
    max_length: 128
    heldout: 8
    grid:
      learning_rate: [0.0003, 0.001, 0.003, 100]
      batch_size: [4, 8]
evaluate:
  benchmarks: [world_choice]
  limit: 16
resources: {cpus_per_trial: 1}
"""
"""Eight cells, two of which diverge."""

LIVE = "return !!document.querySelector('[data-live]')"
STATES = "return [...document.querySelectorAll('.cells-map td')].map(td => td.className)"


def seconds_until(condition, timeout: float = 120.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def watched(browser, tmp_path_factory) -> Iterator[list[dict]]:
    """What a browser saw of a run that went on before it, a look every half second; the last one
    is of the report."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "grid.yaml").write_text(GRID)
    run = folder / "runs" / "seen"
    command = [sys.executable, "-m", "sweep.run", "grid.yaml", "--local"]
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
    )
    page = run / "report" / "index.html"
    try:
        seconds_until(lambda: page.exists() or process.poll() is not None)
        browser.set_window_size(1200, 1000)
        browser.get_log("browser")
        browser.get(page.as_uri())
        looks: list[dict] = []
        while not looks or looks[-1]["live"]:
            looks.append(
                {
                    "live": browser.execute_script(
                        "return !!document.querySelector('[data-live]')"
                    ),
                    "states": browser.execute_script(STATES),
                    "curves": browser.execute_script(
                        "return document.querySelectorAll('.cells-map polyline').length"
                    ),
                    "contours": browser.execute_script(
                        "return document.querySelectorAll('.explorer .contour .main-svg').length"
                    ),
                    "text": browser.execute_script("return document.body.innerText"),
                    "ended": process.poll(),
                }
            )
            assert len(looks) < 400
            time.sleep(0.5)
        assert process.wait(60) == 0
        looks[-1]["errors"] = [
            entry["message"]
            for entry in browser.get_log("browser")
            if "ERR_FILE_NOT_FOUND" not in entry["message"]  # live.js, when the report is there
        ]
        looks[-1]["folder"] = run
        yield looks
    finally:
        process.kill()
        process.wait()


def test_cells_turn_from_planned_to_running_to_done(watched):
    seen = [look["states"] for look in watched if look["states"]]
    assert all(len(states) == 8 for states in seen)
    assert "planned" in seen[0]
    assert any("running" in states for states in seen)
    assert seen[-1].count("planned") < seen[0].count("planned")
    assert "ok" in seen[-1] and "diverged" in seen[-1]


def test_curves_and_contours_come_as_cells_end(watched):
    drawn = [look for look in watched if look["live"] and look["states"]]
    assert drawn[0]["contours"] == 0
    assert max(look["curves"] for look in drawn) >= 4
    assert max(look["contours"] for look in drawn) > 0


@pytest.mark.parametrize("told", ["trials ended", "Cost so far", "to the end", "tokens/s"])
def test_page_tells_counts_time_and_cost(watched, told):
    assert any(told in look["text"] for look in watched if look["live"])


def test_page_becomes_the_report_by_itself_without_an_error(watched):
    assert "Which learning rate, which batch size?" in watched[-1]["text"]
    assert watched[-1]["errors"] == []
    report = watched[-1]["folder"] / "report"
    assert not [file.name for file in report.iterdir() if "live" in file.name]


@pytest.fixture
def planned(load) -> tuple[RunFolder, str]:
    grid = load(GRID)
    return grid, plan_csv(plan.trials(grid))


def begun(folder: RunFolder, plan: str, said: list[str]) -> live.LivePage:
    page = live.LivePage(folder, plan, said.append)
    page.begin("Preparing the data")
    seconds_until(page.path.exists, 30)
    return page


def test_plan_stands_before_anything_is_written(planned, tmp_path):
    page = begun(RunFolder(tmp_path / "run"), planned[1], [])
    text = (page.path.parent / live.DATA).read_text()
    page.stop("the disk is full")
    assert text.count('"planned"') >= 6 and "Preparing the data" in text
    stopped = (page.path.parent / live.DATA).read_text()
    assert "Stopped: the disk is full. The same command goes on from here." in stopped


def test_contours_come_though_the_looks_alone_use_all_the_time(watched, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "EVERY_SECONDS", 0.1)
    monkeypatch.setattr(live, "CPU_AT_FIRST", 0.0)
    monkeypatch.setattr(live, "CPU_SHARE", 0.001)
    folder = RunFolder(shutil.copytree(watched[-1]["folder"], tmp_path / "slow"))
    page = begun(folder, (folder.path / "plan.csv").read_text(), [])
    seconds_until((page.path.parent / live.SURFACES).exists, 20)
    page.stop("interrupted")


def test_page_signs_though_the_next_look_is_far_off(planned, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "EVERY_SECONDS", 1000.0)
    monkeypatch.setattr(live, "LONGEST_SILENCE", 0.05)
    page = begun(RunFolder(tmp_path / "run"), planned[1], [])
    data = page.path.parent / live.DATA
    before = data.read_text()
    seconds_until(lambda: data.read_text() != before, 10)
    kept, written = (text.rpartition(",written:")[::2] for text in (before, data.read_text()))
    assert kept[0] == written[0]
    page.stop("interrupted")


def test_map_grows_with_the_plan_and_the_rest_of_the_page_goes_on(browser, planned, tmp_path):
    """As cells are chosen."""
    head, base, *rows = planned[1].splitlines(keepends=True)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    plan = folder.path / "plan.csv"
    at_first = [row for row in rows if ",0.001," in row or ",0.003," in row]
    plan.write_text("".join([head, base, *at_first]))
    page = begun(folder, plan.read_text(), [])
    labels = (
        "return [...document.querySelectorAll('.cells-map tbody th')].map(th => th.textContent)"
    )
    browser.get_log("browser")
    browser.get(page.path.as_uri())
    seconds_until(lambda: browser.execute_script(labels) == ["1e-3", "3e-3"], 20)
    trial = folder.path / "trials" / rows[0].strip().rpartition(",")[2]
    trial.mkdir(parents=True)
    (folder.path / "driver.json").write_text("{}")
    files.append_events(trial / "attempts.jsonl", [{"event": "started"}])
    plan.write_text(planned[1])
    seconds_until(lambda: len(browser.execute_script(labels)) == 4, 20)
    assert browser.execute_script(labels) == ["3e-4", "1e-3", "3e-3", "100"]
    states = browser.execute_script(STATES)
    assert len(states) == 8 and states.index("running") < 2, "in the row of 3e-4"
    assert [e for e in browser.get_log("browser") if "ERR_FILE" not in e["message"]] == []
    page.stop("interrupted")


CLOCKS = """
const states = [], real = Date.now;
let now = real();
Date.now = () => now;
const note = document.querySelector('.note'), sign = document.querySelector('.sign');
const state = {...last, stopped: false, warning: ''};
for (const [seconds, written] of arguments[0]) {
  now += 1000 * seconds;
  sweepState({...state, written});
  states.push([note.hidden ? '' : note.textContent, sign.textContent]);
}
Date.now = real;
return states;
"""


@pytest.mark.parametrize("ahead", [-3600_000, 0, 3600_000])
def test_run_is_silent_by_the_clock_of_the_browser_alone(browser, planned, tmp_path, ahead):
    page = begun(RunFolder(tmp_path / "run"), planned[1], [])
    page.stop("interrupted")
    browser.get(page.path.as_uri())
    seconds_until(lambda: browser.execute_script("return last !== null"), 20)
    written = int(time.time() * 1000) + ahead
    looks = [
        (0, written),
        (45, written + 1),
        (80, written + 2),
        (60, written + 2),
        (40, written + 2),
    ]
    told = browser.execute_script(CLOCKS, looks)
    assert [bool(note) for note, _ in told] == [False, False, False, False, True]
    assert "no sign for 2 min" in told[-1][0]
    assert told[2][1] == "Last sign of the run: 0 s ago."


def test_run_that_is_left_shows_nothing_as_running(planned, tmp_path):
    folder = RunFolder(tmp_path / "run")
    trial = folder.path / "trials" / planned[1].splitlines()[2].rpartition(",")[2]
    trial.mkdir(parents=True)
    (folder.path / "driver.json").write_text("{}")
    files.append_events(trial / "attempts.jsonl", [{"event": "started"}])
    page = begun(folder, planned[1], [])
    data = page.path.parent / live.DATA
    assert '"running":1' in data.read_text()
    page.stop("interrupted")
    assert '"running":1' not in data.read_text() and '"planned":9' in data.read_text()


def test_report_of_an_earlier_start_comes_back_where_nothing_was_added(planned, tmp_path):
    folder = RunFolder(tmp_path / "run")
    report = folder.path / "report" / "index.html"
    report.parent.mkdir(parents=True)
    report.write_text("the earlier report")
    page = begun(folder, planned[1], [])
    seconds_until(lambda: "the earlier report" not in report.read_text())
    page.stop("interrupted")
    assert report.read_text() == "the earlier report"
    assert [file.name for file in report.parent.iterdir()] == ["index.html"]


def test_failure_of_the_page_is_told_and_ends_nothing(planned, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    (folder.path / "report").write_text("a file where the folder should be")
    said: list[str] = []
    with live.drawn(folder, planned[1], said.append) as page:
        page.begin("")
        seconds_until(lambda: bool(said), 30)
    assert len(said) == 1 and "the run goes on without it" in said[0]


@pytest.fixture
def served(chain_run, tmp_path) -> Iterator[serve.Server]:
    run = shutil.copytree(chain_run.path, tmp_path / "served")
    with serve.Server(run, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_served_page_opens_with_its_token_and_draws(browser, served):
    browser.get_log("browser")
    browser.get(served.url)
    assert "Which learning rate" in browser.execute_script("return document.body.innerText")
    assert "token" not in browser.current_url
    assert [e for e in browser.get_log("browser") if "favicon" not in e["message"]] == []


def test_driver_log_has_no_error_of_the_page(watched):
    log = (watched[-1]["folder"] / LOG).read_text()
    assert "fills while trials run" in log
    assert "the run goes on without it" not in log
