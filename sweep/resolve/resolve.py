"""A grid with all that it names looked up: once, right after the grid was checked.

A plan needs no network and no data, so it is made from the grid as declared. Everything that comes
after the plan takes the `ResolvedGrid`, or the part of it that it needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sweep.gridfile import checks
from sweep.gridfile.keys.schema import Grid
from sweep.plan import dropout
from sweep.plan.evaluations import WantedByStage, wanted
from sweep.resolve import pin
from trainers import hub
from trainers.cli import BAD_INPUT, CANNOT_RUN
from trainers.data.rows import sources
from trainers.data.rows.hub_data import COMMIT
from trainers.evaluate import try_out
from trainers.hub import Commits, Needs
from trainers.models import fingerprint, load, reach
from trainers.processes import process
from trainers.specs import file_names
from trainers.specs.data import DataSpec, Model
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks

SEEN = ("model:", "benchmark:")
"""What of the commits is among the fingerprints; data is there by its label."""


class CannotStart(Exception):
    """The grid is right but cannot run here and now."""

    code = CANNOT_RUN
    """Exit code of the command."""


class WrongGrid(CannotStart):
    """A benchmark cannot be scored, or texts are too long for the model or an adapter does not fit
    it, whatever the machine."""

    code = BAD_INPUT


@dataclass(frozen=True)
class ResolvedGrid:
    """What a run is made from, fixed for all of its waves."""

    grid: Grid
    """As declared; keys of trials are hashes of it."""
    needed: Needs
    """What every node fetches, at the commits that this one fetched."""
    commits: Commits
    fingerprints: dict[str, str]
    """Of the content that trials read: data by `DataSpec.label`, models as `model:NAME` and their
    other files as `model:NAME (tokenizer and generation settings)`, data sets of benchmarks as
    `benchmark:NAME`."""
    evaluations: WantedByStage
    notes: tuple[str, ...] = ()
    """What the model that is here has to say of its trainings, a line each."""

    @cached_property
    def pinned(self) -> Grid:
        """The grid with hub names at their commits and local names as absolute paths."""
        return pin.grid(self.grid, self.commits)


def resolve(grid: Grid, seen: Mapping[str, str] | None = None) -> ResolvedGrid:
    """Check the benchmarks, fetch from the hub, fingerprint what was fetched, and take this process
    and its children offline. What the trials of an earlier start have `seen`, as `fingerprints`
    names it, is fetched at the same commit.

    Raises:
        CannotStart: something is missing.
    """
    check_benchmarks(grid)
    needed = needs(grid).model_copy(update={"held": _held(grid, seen or {})})
    try:
        commits = hub.fetch(needed)
    except hub.FetchFailed as error:
        raise CannotStart(str(error)) from error
    too_long = checks.positions(grid.model.name, grid.stages)  # of a model that is here now
    lines = [f"{'.'.join(map(str, path))}: {message}" for path, message in too_long]
    cells = {name: [spec for _, spec in stage.cells] for name, stage in grid.stages.items()}
    reached = reach.reach(grid.model.name, cells)
    if lines := [*lines, *reached.problems]:
        raise WrongGrid("\n".join(lines))
    process.go_offline()
    if wrong := try_out.problems(_absolute(grid.evaluate)):
        raise WrongGrid("\n".join(wrong))
    marks = fingerprints(grid, commits)
    notes = (*reached.notes, *dropout.lines(grid))
    return ResolvedGrid(grid, hub.at(needed, commits), commits, marks, wanted(grid, marks), notes)


def _held(grid: Grid, seen: Mapping[str, str]) -> Commits:
    """The commits among what was seen, where the grid file does not name another."""
    models = {f"model:{model.name}" for model in _models(grid) if model.revision is None}
    held = {n: mark for n, mark in seen.items() if n in models or n.startswith("benchmark:")}
    held |= {data.cache_key: seen[data.label] for data in _data(grid) if data.label in seen}
    return {name: mark for name, mark in held.items() if COMMIT.fullmatch(mark)}


def _absolute(evaluate: EvaluateSpec) -> EvaluateSpec:
    if evaluate.data_dir is None:
        return evaluate
    return evaluate.model_copy(update={"data_dir": str(Path(evaluate.data_dir).absolute())})


def check_benchmarks(grid: Grid) -> None:
    """
    Raises:
        CannotStart: items, or a GPU for vLLM, are missing; all of them in one message.
    """
    named = [name for name in grid.evaluate.benchmarks if name not in benchmarks.OF_STAGES]
    missing = [benchmarks.missing(benchmarks.find(name), grid.evaluate) for name in named]
    problems = list(dict.fromkeys(problem for problem in missing if problem))
    least = min(grid.trial_resources(stage).gpus_per_trial for stage in grid.scored_stages)
    if grid.evaluate.backend == "vllm" and least < 1:
        problems.append("evaluate.backend: vllm takes a whole GPU; set resources.gpus_per_trial: 1")
    if problems:
        raise CannotStart("\n".join(problems))


def needs(grid: Grid) -> Needs:
    """What has to be fetched, looked up or converted. Call it before this process goes offline.

    Raises:
        CannotStart: a model is in a package that is not installed.
    """
    try:
        return hub.needs(_models(grid), _data(grid), grid.evaluate)
    except load.ModelUnavailable as error:
        raise CannotStart(str(error)) from error


def fingerprints(grid: Grid, commits: Commits) -> dict[str, str]:
    """See `ResolvedGrid.fingerprints`.

    Raises:
        CannotStart: data or a model cannot be read.
    """
    marks = {name: commit for name, commit in commits.items() if name.startswith(SEEN)}
    try:
        for model in _models(grid):
            of_settings = f"model:{model.name} (tokenizer and generation settings)"
            for name, content in (
                (f"model:{model.name}", fingerprint.of_weights(model.name)),
                (of_settings, fingerprint.of_settings(model.name)),
            ):
                if content is not None:
                    marks[name] = content
        for data in _data(grid):
            marks[data.label] = sources.fingerprint(hub.pinned(data, commits))
    except (sources.DataUnavailable, load.ModelUnavailable) as error:
        raise CannotStart(str(error)) from error
    return marks


def _models(grid: Grid) -> list[Model]:
    """Those that are trained, scored, or reward others."""
    cells = (cell for stage in grid.stages.values() for _, cell in stage.cells)
    judges = (Model(name=judge) for _, judge in file_names.given(cells, "model"))
    return [grid.model, *grid.references, *judges]


def _data(grid: Grid) -> list[DataSpec]:
    cells = (cell for stage in grid.stages.values() for _, cell in stage.cells)
    return list(dict.fromkeys(source for cell in cells for source in cell.sources))
