"""The Dockerfile, by reading, as no image is built here: what it copies is there, what it installs
is what the Makefile installs, and what it starts is accepted."""

import fnmatch
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest
import yaml

from tests.documented import ROOT

LAUNCH = ROOT / "docs" / "launch"
COPY_AND_ALL = re.compile(r"\s*\\\n\s*")
TORCH = "$(grep '^torch==' requirements.lock)"
LEFT_OUT = {"--quiet", "--disable-pip-version-check", "--no-cache-dir"}
"""Options of pip that decide nothing about what is installed."""


@pytest.fixture
def steps() -> list[tuple[str, str]]:
    """Instruction and the rest of its line, continued lines joined."""
    text = COPY_AND_ALL.sub(" ", (LAUNCH / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def sources(steps: list[tuple[str, str]]) -> list[str]:
    return [name for step, rest in steps if step == "COPY" for name in rest.split()[:-1]]


def installs(commands: str) -> Iterator[tuple[str, ...]]:
    """What `pip install` is told, in order."""
    for line in re.findall(r"pip install ([^&\n]*)", commands):
        yield tuple(word for word in shlex.split(line) if word not in LEFT_OUT)


def test_what_is_copied_is_there_and_is_sent_to_the_build(steps):
    names = sources(steps)
    assert [name for name in names if not (ROOT / name).exists()] == []
    lines = (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in lines
    assert [name for name in names if f"!{name}" not in lines] == []
    assert not any(fnmatch.fnmatch(f"x/{name}", line) for name in names for line in lines[2:])


def test_every_package_and_the_grids_are_in_the_image(steps):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    needed = {name.rstrip("*") for name in packages} | {"grids", project["project"]["readme"]}
    assert needed <= set(sources(steps))


def test_image_installs_what_the_makefile_installs(steps):
    torch, *others = installs("\n".join(rest for step, rest in steps if step == "RUN"))
    assert others == list(
        installs(re.split(r"^lock:", (ROOT / "Makefile").read_text(), flags=re.M)[0])
    )
    assert torch[0] == TORCH
    pin = subprocess.run(
        ["sh", "-c", f'echo "{TORCH}"'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert pin.stdout.strip() in project["dependencies"]


def test_files_are_copied_before_they_are_installed(steps):
    copied: set[str] = set()
    for step, rest in steps:
        if step == "COPY":
            copied |= set(rest.split()[:-1])
        if "requirements.lock" in rest and step == "RUN":
            assert "requirements.lock" in copied
        if "--editable" in rest:
            assert copied == set(sources(steps))


def test_python_is_one_that_the_project_supports_and_the_tests_run(steps):
    (version,) = [
        re.fullmatch(r"python:(3\.\d+)-slim", rest)[1] for s, rest in steps if s == "FROM"
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={version}"


def test_image_starts_a_command_and_lies_where_the_job_looks(steps):
    told = dict(steps)
    assert told["WORKDIR"] == "/app"
    job = yaml.safe_load((LAUNCH / "rayjob.yaml").read_text())
    (grid,) = re.findall(r"/app/(\S+\.yaml)", job["spec"]["entrypoint"])
    assert (ROOT / grid).exists()
    program, *arguments = json.loads(told["CMD"])
    assert program == "python"
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
