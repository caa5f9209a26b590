"""Spoiled grid files, command lines, tables, folders of runs, rows, task files and records: each is
read, or refused in a sentence; nothing raises, hangs or writes where it refuses.

`make fuzz` draws 10,000 of them, FUZZ_EXAMPLES in all; `make test` a few of each.
"""

import os
import shutil
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import sweep.run
import sweep.status
from analysis.tables import load as tables
from analysis.tables.errors import ResultsError
from analysis.tables.records import run_table
from sweep import new
from sweep.export import __main__ as export_command
from sweep.storage.status.reader import Reader
from tests.fuzz import spoiled
from trainers import files
from trainers.data import prepare
from trainers.data.rows.stored_rows import DataUnavailable
from trainers.specs.training import SftSpec
from trainers.tasks import benchmarks

ROOT = Path(__file__).parents[2]
PARTS = 7
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 10 * PARTS)) // PARTS
SECONDS = 4.0
"""Of the processor, for one input."""

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""The same inputs each time: what is found once is found again."""

GRIDS = tuple(path.read_text(encoding="utf-8") for path in sorted((ROOT / "grids").glob("*.yaml")))

TABLES = (
    "learning_rate,batch_size,seed,benchmark,value,stderr\n"
    + "\n".join(
        f"{rate},{batch},{seed},arc,{0.3 + 0.01 * seed},0.02"
        for rate in (1e-5, 1e-4, 1e-3)
        for batch in (4, 8)
        for seed in (0, 1)
    ),
    "lr,bs,eval/loss\n1e-5,8,2.31\n1e-4,8,2.11\n1e-3,8,2.9\n1e-5,16,2.4\n1e-4,16,2.2\n",
    "| lr | batch size | ARC | GSM8K |\n|---|---|---|---|\n| 1e-5 | 8 | 30.1 | 1.2 |\n",
)

SUFFIXES = (".csv", ".tsv", ".md", ".json", ".jsonl")

ROWS = (
    '{"messages": [{"role": "user", "content": "2+2?"}, '
    '{"role": "assistant", "content": "4"}]}\n' * 6,
    '{"prompt": "2+2?", "completion": "4"}\n{"prompt": "3+3?", "completion": "6"}\n' * 3,
    '{"instruction": "Add.", "input": "2 2", "output": "4"}\n' * 6,
    '{"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]}\n' * 6,
)  # fmt: skip

OUTPUTS = {
    "results.json": '{"results": {"arc_easy": {"alias": "x", "acc,none": 0.3, "acc_stderr,none": '
    '0.01}}, "n-samples": {"arc_easy": {"effective": 100}}, "higher_is_better": {"arc_easy": '
    '{"acc": true}}, "group_subtasks": {"mmlu": ["mmlu_law"]}, "versions": {}}',
    "trainer_state.json": '{"log_history": [{"loss": 2.0, "step": 5}, {"eval_loss": 2.1}]}',
    "all_results.json": '{"eval_loss": 2.0, "epoch": 1.0}',
    "result.json": '{"eval_loss": 2.0, "training_iteration": 3, "config": {"lr": 1e-5}}',
    "wandb-summary.json": '{"eval_loss": 2.0, "_step": 3, "_wandb": {"runtime": 4}}',
    "params.json": '{"lr": 1e-5, "batch_size": 16, "nested": {"a": 1}}',
    "config.yaml": "learning_rate:\n  value: 1e-5\nbs:\n  value: 16\n",
}

TASKS = (
    "task: sums\ndataset_path: json\ndataset_kwargs: {data_files: sums.jsonl}\ntest_split: train\n"
    "output_type: multiple_choice\ndoc_to_text: 'Q: {{question}}'\ndoc_to_target: answer\n"
    "doc_to_choice: choices\nmetric_list:\n  - {metric: acc, aggregation: mean, "
    "higher_is_better: true}\n",
    "task: sums\ndataset_path: json\ndataset_kwargs: {data_files: sums.jsonl}\ntest_split: train\n"
    "output_type: generate_until\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n"
    "generation_kwargs: {until: ['\\n'], max_gen_toks: 8}\nmetric_list:\n  - metric: exact_match\n",
)

WITHOUT = ("--serve", "--open", "--port", "--help", "--local", "--address", "--calibrate", "--yes")
"""Options that open a browser or a port, or start work."""


@pytest.fixture(scope="module")
def old_run(tmp_path_factory) -> Path:
    archive = ROOT / "tests" / "sweep" / "storage" / "old_runs" / "2026-11-28.tar.xz"
    folder = tmp_path_factory.mktemp("runs")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "old"


@pytest.fixture(scope="module", autouse=True)
def warm(old_run):
    """What is imported at its first use takes seconds of its own."""
    CliRunner().invoke(sweep.status.app, [str(old_run)])
    CliRunner().invoke(sweep.run.app, [str(ROOT / "grids" / "quickstart.yaml"), "--dry-run"])


def quick(work: Callable[[], Any]) -> Any:
    begun = time.process_time()
    outcome = work()
    assert time.process_time() - begun < SECONDS
    return outcome


def refused(work: Callable[[], Any], *expected: type[Exception]) -> None:
    """`work` ends well, or raises one of `expected` with a message, from code of ours."""
    try:
        quick(work)
    except expected as error:
        assert str(error).strip()
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        assert Path(last).is_relative_to(ROOT) and ".venv" not in last, traceback.format_exc()


def command(app: typer.Typer, arguments: list[str], folder: Path) -> int:
    """The exit code; no exception leaves the command, and a refusal writes nothing."""
    before = sorted(folder.rglob("*"))
    ended = quick(lambda: CliRunner().invoke(app, arguments))
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    assert "Traceback" not in ended.output
    assert ended.exit_code in (0, 2, 4), ended.output
    if ended.exit_code == 2:
        assert ended.output.strip() and sorted(folder.rglob("*")) == before
    return ended.exit_code


@given(text=spoiled.text(GRIDS))
@many
def test_grid_file(text):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "grid.yaml")
        file.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        runs = Path(folder, "runs")
        command(sweep.run.app, [str(file), "--dry-run", "--runs", str(runs)], Path(folder))


@st.composite
def lines(draw: st.DrawFn) -> tuple[typer.Typer, list[str]]:
    """A command with options of its own and values that may be none of theirs."""
    app = draw(st.sampled_from((sweep.run.app, sweep.status.app, export_command.app, new.app)))
    known: Any = typer.main.get_command(app).params
    options = [name for one in known for name in one.opts if name.startswith("--")]
    value = st.one_of(
        st.sampled_from(spoiled.VALUES), st.text(max_size=8), st.just("model=tiny"), st.just("1e-4")
    )
    parts: list[str] = []
    for _ in range(draw(st.integers(0, 3))):
        parts.append(draw(st.sampled_from([name for name in options if name not in WITHOUT])))
        parts += draw(st.lists(value, max_size=1))
    first = st.one_of(st.sampled_from(("RUN", "GRID", "/nowhere")), value)
    return app, [*draw(st.lists(first, max_size=1)), *parts]


@given(line=lines())
@many
def test_command_line(line, old_run):
    app, arguments = line
    with tempfile.TemporaryDirectory() as folder:
        named = {"RUN": str(old_run), "GRID": str(ROOT / "grids" / "quickstart.yaml")}
        arguments = [named.get(part, part).replace("\x00", "") for part in arguments]
        if app is sweep.run.app:
            arguments += ["--dry-run", "--runs", f"{folder}/runs"]
        if app is export_command.app:
            arguments += ["--to", f"{folder}/model"]
        if app is new.app:
            arguments += ["--out", f"{folder}/new.yaml"]
        command(app, arguments, Path(folder))


@given(
    text=spoiled.text(TABLES), suffix=st.sampled_from((".csv", ".tsv", ".md", ".json", ".jsonl"))
)
@many
def test_table(text, suffix):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"table{suffix}")
        file.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        refused(lambda: tables.read_table(file), ResultsError)


@given(name=st.sampled_from(sorted(OUTPUTS)), data=st.data())
@many
def test_folder_of_runs(name, data):
    with tempfile.TemporaryDirectory() as folder:
        for run in ("sft_lr1e-5_bs8", "sft_lr1e-4_bs8", "other"):
            Path(folder, run).mkdir()
            Path(folder, run, "all_results.json").write_text(OUTPUTS["all_results.json"])
            text = data.draw(spoiled.text((OUTPUTS[name],)))
            content = text.encode("utf-8", errors="surrogatepass")
            Path(folder, run, name).write_bytes(content)
        refused(lambda: tables.read_table(Path(folder)), ResultsError)


@given(text=spoiled.text(ROWS))
@many
def test_rows_of_training_data(text, tiny):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.jsonl")
        file.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        spec = SftSpec.model_validate({
            "kind": "sft", "data": str(file), "learning_rate": 1e-4, "batch_size": 1, "steps": 1,
            "max_length": 64,
        })  # fmt: skip
        refused(
            lambda: prepare.prepare(spec, tiny.tokenizer, Path(folder, "data")),
            ValueError,
            DataUnavailable,
        )


@given(text=spoiled.text(TASKS))
@many
def test_task_file(text):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sums.yaml")
        file.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        told = quick(lambda: benchmarks.problem(str(file)))
        assert told is None or told.strip()
        if told is None:
            benchmarks.find(str(file))


@given(data=st.data())
@many
def test_records_of_a_run(data, old_run):
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "old")
        shutil.copytree(old_run, run)
        records = sorted(
            path for path in run.rglob("*") if path.suffix in (".json", ".jsonl", ".csv")
        )
        record = data.draw(st.sampled_from(records))
        text = data.draw(spoiled.text((record.read_text(encoding="utf-8"),)))
        record.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        refused(lambda: Reader(run).read(), files.Damaged, FileNotFoundError)
        refused(lambda: run_table.write(run), ResultsError)
        command(sweep.status.app, [str(run)], run)
