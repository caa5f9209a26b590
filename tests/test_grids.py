"""Every shipped grid loads and plans, and says the truth about its size."""

import re
from importlib import metadata
from pathlib import Path

import pytest

from sweep.gridfile import load
from sweep.plan import trials as plan
from trainers.tasks import benchmarks

ROOT = Path(__file__).parent.parent
GRIDS = sorted((ROOT / "grids").glob("*.yaml"))
COUNT = re.compile(r"#.*?(\d+(?: x \d+)+) = (\d+) trials")
"""A comment such as `# 5 x 4 = 20 trials`."""


@pytest.fixture(params=GRIDS, ids=lambda path: path.stem)
def shipped(request, monkeypatch) -> Path:
    monkeypatch.chdir(ROOT)
    return request.param


def test_there_are_grids():
    assert ROOT / "grids" / "quickstart.yaml" in GRIDS


def test_grid_plans_each_trial_once(shipped):
    trials = plan.trials(load.load(shipped))
    keys = [trial.key for trial in trials]
    assert len(trials) > 1
    assert len(set(keys)) == len(keys)


def test_parents_come_before_children(shipped):
    seen: set[str | None] = {None}
    for trial in plan.trials(load.load(shipped)):
        assert trial.parent in seen
        seen.add(trial.key)


def test_grid_is_named_as_its_file(shipped):
    assert load.load(shipped).name == shipped.stem


def test_head_says_how_to_run_it(shipped):
    assert f"python -m sweep.run grids/{shipped.name}" in shipped.read_text().partition("name:")[0]


def test_comments_state_the_number_of_trials(shipped):
    """A count in the head is the file's, one further down is the stage's that it stands in."""
    trials = plan.trials(load.load(shipped))
    stage = None
    for number, line in enumerate(shipped.read_text().splitlines(), 1):
        if opened := re.match(r"  (\w[\w.-]*):", line):
            stage = opened[1]
        if stated := COUNT.search(line):
            factors, total = stated.groups()
            planned = [t for t in trials if t.spec is not None and stage in (None, t.stage)]
            where = f"{shipped.name}:{number}"
            assert _product(factors) == int(total), where
            assert len(planned) == int(total), where


def _product(factors: str) -> int:
    product = 1
    for factor in factors.split(" x "):
        product *= int(factor)
    return product


def test_quickstart_states_its_number_of_trials():
    text = (ROOT / "grids" / "quickstart.yaml").read_text()
    assert COUNT.search(text), "no comment of the form `# 5 x 4 = 20 trials`"


def test_keys_and_fingerprints_of_a_shipped_grid_have_not_changed(monkeypatch):
    """Every run folder in use relies on them. Change these texts only with a reason for users."""
    monkeypatch.chdir(ROOT)
    grid = load.load(ROOT / "grids" / "lr_bs.yaml")
    keys = [trial.key for trial in plan.trials(grid)][:4]
    assert keys == ["a0084a990544", "e9162a2b629a", "9defa36c1a49", "302f9fb40773"]
    if metadata.version("lm_eval") != "0.4.13":
        pytest.skip("fingerprints of scores cover the version of lm-eval")
    marks = [benchmarks.fingerprint(benchmarks.find(n), grid.evaluate) for n in ("arc", "gsm8k")]
    assert marks == ["7fa9a4c4eae9c309", "853e77815c75a2bb"]
