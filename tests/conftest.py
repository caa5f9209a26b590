"""Fixtures that several test files share: grid files, the command, and one small run folder."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.own_task import own_task
from trainers.processes import devices

os.environ.setdefault("SWEEP_TEST_GPUS", ",".join(devices.visible()))
if len(devices.visible()) > 1:
    devices.restrict(1)  # TRL refuses to train in one process that sees several

ROOT = Path(__file__).parent.parent

SMALL = """\
name: small
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 24}
    steps: 3
    max_length: 128
    heldout: 8
    grid:
      learning_rate: [0.001, 0.002]
      batch_size: [4]
evaluate:
  benchmarks: [world_choice]
  limit: 8
  batch_size: 8
resources: {cpus_per_trial: 1}
"""
"""Two trials, and the model as it is."""

CHAIN = """\
name: chain
model: tiny
stages:
  first:
    kind: sft
    data: {name: world:sft, examples: 24}
    learning_rate: 0.001
    batch_size: 4
    steps: 3
    max_length: 128
    heldout: 8
  second:
    kind: sft
    start_from: first
    data: {name: world:sft, examples: 24}
    steps: 4
    max_length: 128
    heldout: 8
    grid:
      learning_rate: [0.001, 100]
      batch_size: [4]
evaluate:
  benchmarks: [world_choice, world_arithmetic]
  limit: 8
  batch_size: 8
"""
"""A parent and its two children, one of which diverges."""


PIPELINE = """\
name: pipeline
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 24}
    steps: 3
    heldout: 8
    grid:
      learning_rate: [0.001, 0.002]
      batch_size: [4]
      seed: [0, 1]
  dpo:
    kind: dpo
    start_from: sft
    parent: {best: world_choice}
    data: {name: world:preferences, examples: 24}
    steps: 2
    heldout: 8
    learning_rate: 0.0001
    batch_size: 4
  judge:
    kind: reward
    start_from: dpo
    data: {name: world:preferences, examples: 24}
    steps: 2
    heldout: 8
    learning_rate: 0.0001
    batch_size: 4
evaluate:
  benchmarks: [world_choice]
  limit: 8
"""
"""4 cells of two settings with two seeds, one DPO on the best, one reward model on that."""


class Ended(NamedTuple):
    """How the command ended in this process."""

    code: int
    output: str
    path: Path


@pytest.fixture(scope="session")
def small() -> str:
    return SMALL


@pytest.fixture
def chain() -> str:
    return CHAIN


@pytest.fixture(scope="session")
def pipeline() -> str:
    return PIPELINE


@pytest.fixture
def grid_file(tmp_path):
    """Writes a grid file; returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "grid.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


PERPLEXITY = """\
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{page}}"
metric_list:
  - metric: word_perplexity
  - metric: byte_perplexity
  - metric: bits_per_byte
"""


@pytest.fixture
def perplexity_task(tmp_path) -> Path:
    """A user's task whose metrics are all the better the lower; its data lie beside it."""
    items = [{"page": f"the old cat and the {word} dog sit near a tree"} for word in "abcdef"]
    return own_task(tmp_path / "tasks", items, PERPLEXITY, "my_ppl")


@pytest.fixture
def load(grid_file):
    """A grid from its text and `--set` overrides."""
    from sweep.gridfile import load as config

    return lambda text, *overrides: config.load(grid_file(text), list(overrides))


@pytest.fixture
def planned(load):
    """The trials of a grid's text, by stage."""
    from sweep.plan import trials

    return lambda text, *overrides: trials.trials(load(text, *overrides))


@pytest.fixture
def command(tmp_path):
    """Runs `python -m sweep.run` in another process, from an empty folder."""

    def run(*arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sweep.run", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture
def child_seconds():
    """CPU seconds of the processes that this one has started and that have ended."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    return used


def drive_locally(text: str, folder: Path, *options: str) -> Ended:
    """The whole command in this process, without Ray; `folder` has the name of the grid."""
    from typer.testing import CliRunner

    from sweep import run

    folder.parent.mkdir(exist_ok=True, parents=True)
    file = folder.parent / f"{folder.name}.yaml"
    file.write_text(text, encoding="utf-8")
    arguments = [str(file), "--local", "--runs", str(folder.parent), *options]
    arguments += ["--set", f"name={folder.name}"]
    ended = CliRunner().invoke(run.app, arguments, catch_exceptions=False)
    return Ended(ended.exit_code, ended.output, folder)


@pytest.fixture(scope="session")
def drive():
    return drive_locally


@pytest.fixture(scope="session")
def chain_run(tmp_path_factory) -> Ended:
    """A run of CHAIN that has ended; only to be read."""
    return drive_locally(CHAIN, tmp_path_factory.mktemp("runs") / "chain")


@pytest.fixture(scope="session")
def tiny():
    """The tiny model with its tokenizer, as loaded; a test that trains takes a copy of its own."""
    from trainers.models import load as models

    return models.load("tiny")


@pytest.fixture
def fresh(tiny):
    """A tiny model of the test's own, to be trained."""
    import copy

    return tiny._replace(model=copy.deepcopy(tiny.model))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real benchmark items, where this machine has them."""
    folder = Path(os.environ.get("SWEEP_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: neither SWEEP_DATA nor {folder} is there")
    return folder


QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Chromium without a window; its console is `get_log("browser")`."""
    if CHROMIUM is None or DRIVER is None:
        missing = pytest.fail if os.environ.get("SWEEP_TEST_BROWSER") else pytest.skip
        missing("no chromium and chromedriver on this machine")
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


ENGINES = {"command", "drive", "chain_run", "tiny", "fresh", "explorer", "browser", "shared_data"}
"""Fixtures that train, score, start a process or open a browser."""

ENGINE_ROOMS = (
    "analysis/advice", "analysis/fit", "analysis/report", "gpu", "sweep/audit", "sweep/execution",
    "sweep/execution/backends", "sweep/execution/worker",
    "sweep/export", "sweep/tracking", "trainers/data", "trainers/evaluate", "trainers/inference",
    "trainers/lanes", "trainers/models", "trainers/ops", "trainers/training", "trainers/world",
)  # fmt: skip


SLOW_SECONDS = 1200
"""Limit of a slow test on a busy machine: a fault over two nodes takes 7 minutes there."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that `make test-fast` leaves out; slow ones may take as long as they do.
    Files with engines come first, so that no worker ends alone with one."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
        room = item.path.parent.relative_to(ROOT / "tests").as_posix()
        if (
            item.path.name == "test_hub.py"
            or room in ENGINE_ROOMS
            or ENGINES & set(getattr(item, "fixturenames", ()))
        ):
            item.add_marker(pytest.mark.engine)
    with_engines = {item.path for item in items if item.get_closest_marker("engine")}
    items.sort(key=lambda item: item.path not in with_engines)
