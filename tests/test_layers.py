"""The one rule of dependency, read from the imports themselves."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("sweep", "trainers", "analysis")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))

MAY_IMPORT = {"sweep": {"trainers", "analysis"}, "trainers": set(), "analysis": set()}
HOMES = {
    "ray": {
        f"sweep/execution/backends/{name}.py"
        for name in (
            "compat_ray",
            "ray_access",
            "ray_cluster",
            "ray_metrics",
            "ray_nodes",
            "ray_queue",
            "ray_tasks",
            "ray_tune",
        )
    },
    "optuna": {"sweep/schedule/pools/search.py"},
    "wandb": {"sweep/tracking/trackers.py"},
    "tensorboardX": {"sweep/tracking/trackers.py"},
    "trackio": {"sweep/tracking/trackio_run.py"},
    "apprise": {"sweep/gridfile/keys/apprise_urls.py"},
    "fsspec": {"sweep/storage/remote/object_store.py"},
}
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "lm_eval",
    "ray",
    "optuna",
    "wandb",
    "tensorboardX",
    "trackio",
    "apprise",
}


@cache
def imported(file: Path) -> frozenset[str]:
    """Whole names of what a file imports, inside functions too; of `from a import b` it is a.b."""
    names = set[str]()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: name the package that it imports from"
            names |= {f"{node.module}.{name.name}" for name in node.names}
    return frozenset(names)


def test_every_form_of_import_is_read(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import a.b\ndef f():\n    from c import d, e\n    from g.h import i as j")
    assert imported(file) == {"a.b", "c.d", "c.e", "g.h.i"}


def imports(file: Path) -> set[str]:
    """Packages that a file imports from."""
    return {name.partition(".")[0] for name in imported(file)}


def named(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_the_packages_below_it(package):
    allowed = MAY_IMPORT[package] | {package}
    found = {
        (named(file), name)
        for file in FILES
        if file.is_relative_to(ROOT / package)
        for name in imports(file)
        if name in PACKAGES and name not in allowed
    }
    assert not found


ROOMS = {
    "sweep": """
        run status extend new doctor grid_size grid_template drive orchestrate page terminal
        audit tracking export execution schedule storage resolve price plan gridfile options
    """,
    "trainers": """
        dispatch hub hub_errors compat_hub lanes stages training steps evaluate tasks inference ops
        data rewards models specs world processes cli files
    """,
    "analysis": "report figures design compare advice audit fit posterior tables benchmarks text",
}
"""Sub-packages and modules of each package, in an order in which imports only point to the right.
A `__main__` is a command and may import anything of its package."""

SIBLINGS = {frozenset({trains, "evaluate"}) for trains in ("lanes", "stages", "training", "steps")}
"""Rooms that never import each other."""


def imported_rooms(file: Path) -> set[str]:
    """Rooms of the file's own package that it imports from."""
    package = file.relative_to(ROOT).parts[0]
    return {name.split(".")[1] for name in imported(file) if name.startswith(f"{package}.")}


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_import_only_the_rooms_below_them(package):
    order = ROOMS[package].split()
    upward = set()
    for file in FILES:
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts[0] != package or parts[-1] == "__main__" or len(parts) < 2:
            continue
        room = parts[1]
        if room == "__init__":
            continue
        for other in imported_rooms(file):
            points_down = order.index(other) > order.index(room)
            if other != room and (not points_down or {room, other} in SIBLINGS):
                upward.add((named(file), other))
    assert not upward


def module(file: Path) -> str:
    return named(file).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_no_module_imports_itself_by_way_of_others():
    modules = {module(file) for file in FILES}
    graph = {
        module(file): {
            name if name in modules else name.rpartition(".")[0]
            for name in imported(file)
            if name.partition(".")[0] in PACKAGES
        }
        for file in FILES
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(("library", "homes"), HOMES.items())
def test_library_is_imported_at_home_alone(library, homes):
    assert {named(file) for file in FILES if library in imports(file)} == homes


def test_ray_is_found_where_it_is_used():
    assert "ray" in imports(ROOT / "sweep" / "execution" / "backends" / "ray_cluster.py"), (
        "the reading of imports is broken"
    )


def test_analysis_imports_nothing_that_trains():
    files = [file for file in FILES if file.is_relative_to(ROOT / "analysis")]
    assert files
    assert not {(named(f), name) for f in files for name in imports(f) if name in HEAVY}


WATCHED = """
import runpy, sys, time
sys.argv = ["sweep.run", *sys.argv[1:]]
try:
    runpy.run_module("sweep.run", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
heavy = sorted({name.partition(".")[0] for name in sys.modules} & {HEAVY})
print("LOADED", *heavy)
print("SECONDS", time.process_time())
""".replace("{HEAVY}", repr(HEAVY | {"datasets", "matplotlib", "scipy", "fsspec"}))


@pytest.fixture(scope="module")
def dry_run() -> str:
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, "grids/quickstart.yaml", "--dry-run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_dry_run_loads_neither_torch_nor_ray_nor_any_other_heavy_library(dry_run):
    assert "LOADED\n" in dry_run


def test_dry_run_takes_less_than_two_seconds_of_one_core(dry_run):
    assert float(dry_run.rpartition("SECONDS ")[2]) < 2


LIGHT = """
import trainers
import trainers.specs.training
import trainers.specs.lanes
import trainers.tasks.benchmarks
from trainers.processes import devices; devices.restrict(0.5); devices.cores()
import analysis.report
from trainers.data import prepare, prepare_process
from trainers.models import load; load.tokenizer("tiny")
"""
"""What plans, reports and prepares data: torch's import would take longer than to tokenise what the
quickstart trains on."""


def test_what_plans_reports_and_prepares_loads_neither_torch_nor_lm_eval():
    lines = LIGHT.strip().splitlines()
    code = "import sys\n" + "\n".join(
        f"{line}\nassert not {{'torch', 'lm_eval', 'ray'}} & sys.modules.keys(), {line!r}"
        for line in lines
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_the_docstring_of_a_room_names_every_file_and_room_in_it(package):
    missing = []
    for room in sorted((ROOT / package).rglob("__init__.py")):
        said = ast.get_docstring(ast.parse(room.read_text(encoding="utf-8"))) or ""
        names = {file.stem for file in room.parent.glob("*.py")} - {"__init__", "__main__"}
        names |= {inner.parent.name for inner in room.parent.glob("*/__init__.py")}
        missing += [f"{room.parent.relative_to(ROOT)}: {n}" for n in names if f"`{n}`" not in said]
    assert not missing
