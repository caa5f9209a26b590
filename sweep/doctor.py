"""What is here and what is missing: `python -m sweep.doctor [GRID]`.

One line for each thing, with how to mend what is missing. Exit code 0: the grid could start; 4: it
could not; 2: the grid is wrong.
"""

import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console

from sweep.execution.preflight import to_train
from sweep.gridfile import load
from sweep.gridfile.keys.schema import Grid
from sweep.gridfile.load import GridError
from sweep.plan import trials
from sweep.plan.disk import disk
from sweep.plan.trials import Trial
from sweep.plan.widen import every
from sweep.schedule import selection
from sweep.storage.run_folder import RunFolder
from trainers import hub
from trainers.cli import BAD_INPUT, CANNOT_RUN, refusing, stop
from trainers.data.rows import sources
from trainers.models import load as models
from trainers.models.gguf import INSTALL
from trainers.processes import devices
from trainers.tasks import benchmarks

DASHBOARD = 8265
CUDA = (
    "python -m pip install --force-reinstall torch==2.13.0, then "
    "python -m pip install -r requirements.lock"
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Finding(NamedTuple):
    what: str
    state: str
    mend: str = ""
    """What to do; empty where all is well."""
    blocks: bool = True
    """Whether the grid cannot start before it is mended."""


@app.command()
@refusing
def main(
    grid_file: Annotated[
        Path | None, typer.Argument(metavar="[GRID]", help="A grid file; without: this machine.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
) -> None:
    """Say what a grid needs, what of it is here, and how to get the rest."""
    try:
        grid = load.load(grid_file) if grid_file else None
    except GridError as error:
        stop(BAD_INPUT, str(error))
    known = {} if grid is None else selection.known(grid, RunFolder(runs / grid.name))
    try:
        planned = [] if grid is None else trials.trials(grid, known)
    except ValueError as error:
        stop(BAD_INPUT, f"{grid_file}: {error}")
    results = list(findings(grid, planned, runs))
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    for one in results:
        sign = "ok" if not one.mend else "MISSING" if one.blocks else "note"
        mend = f"; {one.mend}" if one.mend else ""
        console.print(f"{sign:<8} {one.what}: {one.state}{mend}")
    if any(one.mend and one.blocks for one in results):
        raise typer.Exit(CANNOT_RUN)


def findings(grid: Grid | None, planned: list[Trial], runs: Path) -> Iterator[Finding]:
    yield _torch(grid)
    yield _package("ray", "Ray")
    yield from _resources(grid)
    if grid is not None:
        yield from _names(grid)
        yield from _benchmarks(grid)
    yield _disk(grid, planned, runs)
    yield _port()
    if grid is not None and grid.tracking.wandb is not None:
        yield _wandb(grid)


def _package(name: str, shown: str) -> Finding:
    try:
        return Finding(shown, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(shown, "not installed", "make test, or pip install -r requirements.lock")


def _torch(grid: Grid | None) -> Finding:
    package = _package("torch", "torch")
    gpus = devices.visible()
    wants = grid is not None and any(
        grid.trial_resources(stage).gpus_per_trial for stage in grid.scored_stages
    )
    if package.mend:
        return package
    if gpus and "+cpu" in package.state:
        return Finding("torch", f"{package.state}, a CPU build, beside {len(gpus)} GPUs", CUDA)
    if wants and not gpus:
        return Finding(
            "torch",
            f"{package.state}; no GPU here",
            "run on a machine with GPUs, or --address; --set resources.gpus_per_trial=0 for CPUs",
        )
    return Finding("torch", f"{package.state}, {len(gpus)} GPUs")


def _resources(grid: Grid | None) -> Iterator[Finding]:
    cores, gpus = devices.cores(), len(devices.visible())
    yield Finding("machine", f"{cores} CPU cores, {gpus} GPUs")
    for stage in grid.stages if grid else ():
        assert grid is not None
        asked = grid.trial_resources(stage)
        here = devices.trials_at_once(cores, gpus, asked.cpus_per_node, asked.gpus_per_node)
        if not here or asked.nodes_per_trial > 1:
            text = f"a trial asks for {asked.cpus_per_trial:g} CPUs, {asked.gpus_per_trial:g} GPUs"
            if asked.nodes_per_trial > 1:
                text += f" on {asked.nodes_per_trial} nodes"
            yield Finding(f"stage {stage}", text, "lower resources, or join a cluster (--address)")


def _names(grid: Grid) -> Iterator[Finding]:
    from huggingface_hub import get_token

    cells = [spec for stage in grid.stages.values() for _, spec in stage.cells]
    data = dict.fromkeys(source for spec in cells for source in spec.sources)
    on_hub = [(one.name, "model") for one in (grid.model, *grid.references)]
    on_hub = [(name, kind) for name, kind in on_hub if models.on_hub(name)]
    on_hub += [
        (source.name, "dataset")
        for source in data
        if source.name not in sources.WORLD and not sources.is_local(source.name)
    ]
    for model in (grid.model, *grid.references):
        if model.name in models.PACKAGES or model.name.endswith(".gguf"):
            yield gguf(model.name)
    if on_hub:
        token = get_token()
        told = "found" if token else "none: only what is public can be fetched"
        mend = "" if token else "set HF_TOKEN, or run `hf auth login`"
        yield Finding("hub token", told, mend, blocks=False)
    for name, kind in dict.fromkeys(on_hub):
        yield _on_hub(name, kind)


def gguf(name: str) -> Finding:
    """A model in a GGUF file, which a package may hold and another one reads."""
    needed = [module for module in (models.PACKAGES.get(name), "gguf") if module]
    lacking = [module for module in needed if importlib.util.find_spec(module) is None]
    told = f"{' and '.join(lacking)} not installed" if lacking else "can be read"
    return Finding(f"model {name}", told, INSTALL if lacking else "")


def _on_hub(name: str, kind: str) -> Finding:
    """Asked in a process of its own, so that HF_HUB_OFFLINE here decides nothing else."""
    problem = hub.access(name, kind)
    return Finding(f"{kind} {name}", problem or "can be fetched", _mend(problem))


def _mend(problem: str) -> str:
    if not problem:
        return ""
    return "see the message; on nodes without a way out fetch on a login node (docs/slurm.md)"


def _benchmarks(grid: Grid) -> Iterator[Finding]:
    for name in grid.evaluate.benchmarks:
        if name in benchmarks.OF_STAGES:
            continue
        benchmark = benchmarks.find(name)
        lacks = benchmarks.missing(benchmark, grid.evaluate)
        there = hub.hub_data(benchmark, grid.evaluate)
        if lacks:
            yield Finding(f"benchmark {name}", "something is missing", lacks)
        elif there:
            problem = next(filter(None, (hub.access(path, "dataset") for path in there)), "")
            mend = _mend(problem)
            if problem and (benchmark.local_files or benchmark.pairs):
                mend = "set evaluate.data_dir to a folder with its items"
            yield Finding(f"benchmark {name}", problem or "can be fetched", mend)
        else:
            yield Finding(f"benchmark {name}", "its items are here")


def _disk(grid: Grid | None, planned: list[Trial], runs: Path) -> Finding:
    place = next(one for one in (runs.absolute(), *runs.absolute().parents) if one.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:,.1f} GB free at {place}"
    if grid is None:
        return Finding("disk", text)
    may_run = every(grid, planned)
    need = disk(grid, to_train(RunFolder(runs / grid.name), grid, may_run)).peak
    if need is None:
        return Finding("disk", f"{text}; what is needed is unknown until the model is here")
    mend = "make room, `keep: best` or `keep: none`, or --runs" if need > free else ""
    return Finding("disk", f"{text}, up to {need / 1e9:,.1f} GB needed", mend)


def _port() -> Finding:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", DASHBOARD)) == 0
    note = "Ray takes the next free one and prints it" if taken else ""
    return Finding("port 8265", "taken" if taken else "free", note, blocks=False)


def _wandb(grid: Grid) -> Finding:
    assert grid.tracking.wandb is not None
    if grid.tracking.wandb.mode == "offline":
        return Finding("W&B", "offline: it writes to the run folder")
    here = os.environ.get("WANDB_API_KEY") or "api.wandb.ai" in _netrc()
    return Finding("W&B", "key found" if here else "no key", "" if here else "set WANDB_API_KEY")


def _netrc() -> str:
    path = Path.home() / ".netrc"
    return path.read_text(errors="replace") if path.is_file() else ""


if __name__ == "__main__":
    app()
