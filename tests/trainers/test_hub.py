"""Models, data and benchmarks from the hub: fetched once before any trial, by the real hub code.

A stub on loopback serves a tiny model and small data sets.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from tests.trainers.stub_hub import Asked, Hub
from trainers import hub as fetch
from trainers.specs.data import DataSpec, Model

ROOT = Path(__file__).parent.parent.parent

GRID = """\
name: hub
model: maker/base
stages:
  sft:
    kind: sft
    data: {name: maker/talks, examples: 12}
    steps: 2
    max_length: 240
    heldout: 4
    grid:
      learning_rate: [0.001, 0.002]             # 1 x 2 = 2 trials
      batch_size: [4]
evaluate: {benchmarks: [hellaswag], limit: 4, batch_size: 4}
resources: {cpus_per_trial: 1, retries: 0}
"""


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="module")
def base_model(tmp_path_factory) -> dict[str, bytes]:
    """Files of a tiny base model, which like SmolLM2-135M has no chat template."""
    from trainers.models.tiny import tiny

    folder = tmp_path_factory.mktemp("base")
    model, tokenizer = tiny()
    tokenizer.chat_template = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {"more/x.json": b"{}"}


TALKS = [
    {"messages": [
        {"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": f"{n}"},
    ]}
    for n in range(20)
]  # fmt: skip

ITEMS = [
    {"ind": n, "activity_label": "Waiting", "ctx_a": f"One counts {n}.", "ctx_b": "then",
     "ctx": f"One counts {n}. then", "endings": ["it is a", "it is b", "c", "d"],
     "source_id": str(n), "split": "val", "split_type": "indomain", "label": str(n % 4)}
    for n in range(6)
]  # fmt: skip


@pytest.fixture(scope="module")
def hub(base_model) -> Iterator[Hub]:
    hub = Hub()
    hub.repositories = {
        ("model", "maker/base"): base_model,
        ("dataset", "maker/talks"): {"train.jsonl": _lines(TALKS), "README.md": b"# Talks\n"},
        ("dataset", "Rowan/hellaswag"): {
            "train.jsonl": _lines(ITEMS[:1]),
            "validation.jsonl": _lines(ITEMS),
        },
    }
    yield hub
    hub.server.shutdown()


class Ended(NamedTuple):
    """One start of the command: how it ended, and what it asked the hub for."""

    code: int
    output: str
    log: list[Asked]
    folder: Path

    @property
    def downloads(self) -> Counter[str]:
        paths = (asked.file for asked in self.log)
        return Counter(re.sub("resolve/[0-9a-f]{40}/", "", path) for path in paths if path)


@pytest.fixture(scope="module")
def start(hub, tmp_path_factory):
    """Starts the command in another process whose hub is the stub and whose caches are its own."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "grid.yaml").write_text(GRID)
    own = {"HF_ENDPOINT": hub.address, "NO_PROXY": "127.0.0.1", "HF_HOME": str(folder / "hf")}
    own |= {"SWEEP_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if "proxy" not in name.lower() and not name.startswith("HF_")
    }

    def begin(*overrides: str, **environment: str) -> tuple[subprocess.Popen[str], Path]:
        options = [part for override in overrides for part in ("--set", override)]
        process = subprocess.Popen(
            [sys.executable, "-m", "sweep.run", "grid.yaml", "--local", *options],
            cwd=folder, env=kept | own | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return process, folder / "runs"

    return begin


@pytest.fixture(scope="module")
def sweep(hub, start):
    """Runs the command to its end."""

    def run(*overrides: str, **environment: str) -> Ended:
        before = len(hub.log)
        process, runs = start(*overrides, **environment)
        try:
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
        return Ended(process.returncode, output, hub.log[before:], runs / "hub")

    return run


@pytest.fixture(scope="module")
def first(hub, sweep) -> Ended:
    """The first start, from empty caches, at a hub that asks to wait once."""
    hub.refuse = {"/model.safetensors": [429]}
    return sweep()


def test_grid_from_the_hub_runs(first):
    assert first.code == 0, first.output
    assert "3 ok" in first.output


def test_each_file_is_downloaded_once_and_nothing_that_is_not_read(first):
    model = ["model.safetensors", "config.json", "generation_config.json", "tokenizer.json"]
    expected = [f"/maker/base/{name}" for name in (*model, "tokenizer_config.json")]
    expected += [f"/datasets/maker/talks/{name}" for name in ("README.md", "train.jsonl")]
    expected += [f"/datasets/Rowan/hellaswag/{n}.jsonl" for n in ("train", "validation")]
    assert first.downloads == Counter(expected)


def test_hub_that_asks_to_wait_is_asked_again(first):
    heads = [a for a in first.log if a.method == "HEAD" and a.path.endswith("model.safetensors")]
    assert len(heads) == 2


def test_trials_ask_the_hub_for_nothing(first):
    began = min(path.stat().st_mtime for path in first.folder.glob("trials/*/trial.json"))
    assert len(list(first.folder.glob("trials/*/train.json"))) == 3
    assert first.log
    assert [asked for asked in first.log if asked.at > began] == []


def test_commits_are_in_the_manifest(hub, first):
    seen = json.loads((first.folder / "manifest.json").read_text())["data"]
    assert seen["model:maker/base"] == hub.commit(("model", "maker/base"))
    assert seen["maker/talks:train[:12]"] == hub.commit(("dataset", "maker/talks"))
    assert seen["benchmark:Rowan/hellaswag"] == hub.commit(("dataset", "Rowan/hellaswag"))


def test_base_model_is_saved_with_its_chat_template_and_end_token(first):
    saved = next(first.folder.glob("trials/sft-*/model"))
    assert "named SmolLM" in (saved / "chat_template.jinja").read_text()
    assert json.loads((saved / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"


@pytest.mark.slow
def test_reference_comes_from_the_hub_at_its_own_commit(first, hub, sweep, base_model):
    hub.repositories["model", "maker/other"] = base_model | {"README.md": b"# Other\n"}
    scored = sweep("name=table", "references=[maker/other]", "limits.max_trials=2")
    assert scored.code == 5, scored.output
    assert {path.split("/")[2] for path in scored.downloads} == {"other"}
    manifest = json.loads((first.folder.with_name("table") / "manifest.json").read_text())
    assert manifest["data"]["model:maker/other"] == hub.commit(("model", "maker/other"))
    assert manifest["data"]["model:maker/base"] == hub.commit(("model", "maker/base"))
    assert len(list(first.folder.with_name("table").glob("trials/reference-*/scores/*.json"))) == 1


def test_second_start_downloads_nothing_and_trains_nothing(first, sweep):
    again = sweep()
    assert again.code == 0
    assert "3 of 3 models done, 0 to go" in again.output
    assert again.log, "it looks whether the commits are still those of the first start"
    assert not again.downloads


def test_start_without_the_hub_goes_on_from_the_cache(first, sweep):
    again = sweep(HF_HUB_OFFLINE="1")
    assert again.code == 0, again.output
    assert not again.log


@pytest.mark.slow
def test_run_goes_on_with_the_commits_that_it_began_with(first, hub, sweep, tmp_path):
    before, kept = json.loads((first.folder / "manifest.json").read_text())["data"], {}
    for repository, files in hub.repositories.items():
        kept[repository] = files
        hub.repositories[repository] = files | {"README.md": b"# Newer\n"}
    hub.repositories["dataset", "maker/talks"]["train.jsonl"] = _lines(TALKS[1:])
    hub.repositories["dataset", "Rowan/hellaswag"]["validation.jsonl"] = _lines(ITEMS[::-1])
    try:
        same = sweep()
        more = sweep("stages.sft.grid.learning_rate=[0.001, 0.002, 0.003]", "evaluate.limit=5")
        newest = sweep("name=newest")
    finally:
        hub.repositories |= kept
    assert same.code == more.code == newest.code == 0, same.output + more.output + newest.output
    assert "3 of 3 models done, 0 to go" in same.output
    for name in ("model 'maker/base'", "data set 'maker/talks'", "benchmark 'hellaswag'"):
        assert re.search(f"{name}: .* with which the run began; the hub has", same.output)
        assert f"{name}: " in newest.output
    assert "with which the run began" not in newest.output
    assert json.loads((first.folder / "manifest.json").read_text())["data"] == before
    assert len(list(more.folder.glob("trials/*/train.json"))) == 4
    documents = {
        json.loads(path.read_text())["settings"]["documents"]
        for path in more.folder.glob("trials/*/scores/*.json")
        if json.loads(path.read_text())["settings"].get("limit") == 5
    }
    assert len(documents) == 1
    after = json.loads((newest.folder.with_name("newest") / "manifest.json").read_text())["data"]
    assert {name: after[name] == before[name] for name in before} == dict.fromkeys(before, False)


@pytest.fixture
def ask(hub, tmp_path, monkeypatch):
    """Fetches for a grid as its driver does, into caches of its own; the message of a failure."""
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")

    def failure(model: str | None = None, revision: str | None = None, data=()) -> str:
        named = (Model(name=model, revision=revision),) if model else ()
        needs = fetch.Needs(models=named, data=tuple(data), evaluate=None, offline=False)
        with pytest.raises(fetch.FetchFailed) as failed:
            fetch.fetch(needs)
        return str(failed.value)

    return failure


def test_model_that_the_hub_has_not_is_named(ask):
    assert (
        ask("maker/none") == "model 'maker/none': the hub has none of that name, or it is private"
    )


def test_revision_that_the_hub_has_not_is_named(ask):
    assert ask("maker/base", "v9") == "model 'maker/base': the hub has it, but not revision 'v9'"


def test_data_that_the_hub_has_not_is_named(ask):
    assert "data set 'maker/none': the hub has none" in ask(data=[DataSpec(name="maker/none")])


def test_gated_model_is_told_before_it_is_fetched(hub, ask, monkeypatch):
    """The hub names its commit to everybody."""
    assert fetch.access("maker/base", "model") == ""
    monkeypatch.setattr(hub, "gated", {("model", "maker/base")})
    assert "it is gated; accept its terms" in fetch.access("maker/base", "model")
    assert "it is gated; accept its terms" in ask("maker/base")


@pytest.mark.parametrize(
    ("status", "said"), [(429, "too many requests from here"), (500, "answers 500")]
)
def test_hub_that_does_not_serve_is_told_in_one_line(status, said, hub, ask):
    hub.refuse = {"/api/models/maker/base": [status]}
    message = ask("maker/base")
    assert said in message
    assert "\n" not in message


def test_hub_that_says_nothing_is_not_waited_for(hub, ask, monkeypatch):
    """Commits are asked for first, and the hub client by itself sets no limit to that."""
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "1")
    monkeypatch.setattr(hub, "silent", ("/api/models/maker/base",))
    began = time.monotonic()
    message = ask("maker/base")
    assert time.monotonic() - began < 60
    assert "model 'maker/base'" in message
    assert "is the hub to be reached from here?" in message
    assert "\n" not in message


@pytest.mark.slow
def test_page_shows_the_plan_while_the_hub_is_waited_for(hub, start, tmp_path):
    hub.silent = ("/api/models/maker/base",)
    process, runs = start("name=early", HF_HOME=str(tmp_path / "hf"))
    page = runs / "early" / "report" / "index.html"
    try:
        end = time.monotonic() + 60
        while not page.exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        shown = (page.parent / "live.js").read_text()
        assert shown.count('"planned"') >= 2 and "Preparing data and model" in shown
        assert not (runs / "early" / "plan.csv").exists(), "the hub has not answered"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        hub.silent = ()
        process.kill()
    assert process.returncode == 130, output
    assert "Stopped: interrupted" in (page.parent / "live.js").read_text()


@pytest.mark.slow
def test_hub_that_falls_silent_ends_with_one_error_before_any_trial(hub, first, sweep, tmp_path):
    hub.silent = ("/train.jsonl",)
    try:
        ended = sweep(
            "name=silent", HF_HOME=str(tmp_path / "hf"), SWEEP_CACHE=str(tmp_path / "cache"),
            HF_HUB_ETAG_TIMEOUT="1", HF_HUB_DOWNLOAD_TIMEOUT="1",
        )  # fmt: skip
    finally:
        hub.silent = ()
    assert ended.code == 4, ended.output
    assert "data set 'maker/talks'" in ended.output
    assert "Traceback" not in ended.output
    assert not first.folder.with_name("silent").exists()


@pytest.mark.slow
def test_slow_hub_takes_time_and_nothing_else(hub, first, sweep, tmp_path):
    own = {"HF_HOME": str(tmp_path / "hf"), "SWEEP_CACHE": str(tmp_path / "cache")}
    hub.delay = 1.0
    try:
        cold = sweep("name=slow", **own)
        warm = sweep("name=slow", **own)
        offline = sweep("name=slow", HF_HUB_OFFLINE="1", **own)
    finally:
        hub.delay = 0.0
    assert (cold.code, warm.code, offline.code) == (0, 0, 0), cold.output
    assert cold.downloads == first.downloads
    assert not warm.downloads
    assert not offline.log
    slow = first.folder.with_name("slow")
    began = min(path.stat().st_mtime for path in slow.glob("trials/*/trial.json"))
    assert not [asked for asked in cold.log if asked.at > began]
    pd.testing.assert_frame_equal(table(slow), table(first.folder))


def table(folder: Path) -> pd.DataFrame:
    """Results, less the seconds."""
    return pd.read_csv(folder / "results.csv").drop(columns=["train_seconds", "eval_seconds"])


def test_hub_that_is_not_there_is_told_before_anything_is_written(first, sweep, tmp_path):
    ended = sweep("name=other", "model=maker/none", HF_ENDPOINT="http://127.0.0.1:9")
    assert ended.code == 4
    assert "model 'maker/none'" in ended.output
    assert "Traceback" not in ended.output
    assert not first.folder.with_name("other").exists()
