"""Where the first cells of a run that decides lie: about published rates, or an earlier run's.

Looked up once and kept in the run folder, so that every start of the command begins the same way.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from analysis.advice.answers import BenchmarkAnswer, Signal, answers
from analysis.design.screening import ROOT_RULE, centres
from analysis.design.space import Space
from analysis.design.start import Expected
from analysis.fit.rates import RateStatus
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.tables import load
from analysis.tables.records import run_table
from analysis.tables.records.plan_file import read_plan
from analysis.text import listed, title
from sweep.gridfile.keys.choosers import NO_PRIOR, PUBLISHED
from sweep.gridfile.keys.schema import Grid, Stage
from sweep.plan import starting_points
from sweep.resolve.resolve import CannotStart
from trainers import files
from trainers.models import at_hand

KEPT = "prior.json"
"""In decide/ of the run folder."""


def expected(
    grid: Grid, stage: Stage, space: Space, benchmarks: Collection[str], folder: Path
) -> Expected | None:
    """None for a grid without a prior. `benchmarks` are those that are asked about.

    Raises:
        CannotStart: the earlier run has no result that says anything.
    """
    assert grid.decide is not None, "the grid does not decide"
    prior = grid.decide.prior
    if prior == NO_PRIOR:
        return None
    sizes = space.batch_sizes
    of = {"prior": prior, "batch_sizes": list(sizes), "stage": stage.name}
    if prior == PUBLISHED:
        of |= {"model": grid.model.name, "kind": stage.cells[0][1].kind}
    kept = files.read_json(folder / KEPT)
    if kept and all(kept.get(name, given) == given for name, given in of.items()):
        return Expected(dict(zip(sizes, kept["learning_rates"], strict=True)), kept["source"])
    if prior == PUBLISHED:
        new = _published(grid, stage, sizes)
    else:
        new = _earlier(prior, stage, sizes, benchmarks)
    folder.mkdir(parents=True, exist_ok=True)
    rates = [new.rates[size] for size in sizes]
    files.write_json(folder / KEPT, of | {"learning_rates": rates, "source": new.source})
    return new


def _published(grid: Grid, stage: Stage, sizes: tuple[int, ...]) -> Expected:
    kind = stage.cells[0][1].kind
    known = at_hand.parameters(grid.model.name)
    parameters = known or starting_points.ANCHOR_PARAMETERS
    middle = starting_points.centre(kind, parameters)
    rates = {size: middle.learning_rate * (size / middle.batch_size) ** ROOT_RULE for size in sizes}
    size = f"at {parameters / 1e6:,.0f} M parameters"
    size += f" by {starting_points.STEP_LAW}" if known else ", since the model's size is not known"
    return Expected(rates, f"{starting_points.PUBLISHED[kind].source}; {size}; LR ~ root B")


def _earlier(
    run: str, stage: Stage, sizes: tuple[int, ...], benchmarks: Collection[str]
) -> Expected:
    """By that run's LR*(B) of the benchmarks whose scores differ beyond noise: of those that are
    asked about, else of all."""
    frame, items = load.read(Path(run)), run_table.items(Path(run))
    names = list(dict.fromkeys(frame.stage))
    frame = _planned(frame.loc[frame.stage == stage.name], run)
    arms = list(dict.fromkeys(frame.arm))
    if len(arms) > 1:
        grids = listed([title(stage.name, arm) for arm in arms])
        raise CannotStart(
            f"decide.prior: {run} has several grids ({grids}), each with best rates of its own; "
            "give a run of one grid, or none"
        )
    given = answers([fit(cells) for cells in surfaces(frame, items)]) if len(frame) else None
    measured = [its for its in given.benchmarks.values() if its.rates] if given else []
    if not measured:
        raise CannotStart(
            f"decide.prior: {run} has no results of a stage {stage.name!r} over learning rates "
            f"(its stages: {', '.join(names) or 'none'}); give another run, or none"
        )
    clear = [its for its in measured if its.signal is Signal.CLEAR]
    if not clear:
        raise CannotStart(
            f"decide.prior: the scores of {run} do not differ beyond noise "
            f"({listed([its.label for its in measured])}), so it says nothing of the best rates; "
            "give another run, or none"
        )
    say = [its for its in clear if its.benchmark in benchmarks] or clear
    rates = [rate for its in say for rate in its.rates]
    return Expected(centres(rates, sizes), _source(run, list(frame.model.dropna()), say, sizes))


def _planned(frame: pd.DataFrame, run: str) -> pd.DataFrame:
    """Without the arms of before its grid file was edited."""
    plan = read_plan(Path(run))
    if plan is None:
        return frame
    return frame.loc[frame.arm.isin(frame.arm[frame.key.isin(plan.key)])]


def _source(
    run: str, models: Sequence[str], say: Sequence[BenchmarkAnswer], sizes: Sequence[int]
) -> str:
    """The run, and what of it the rates rest on: its model, the benchmarks, ends of its axes."""
    facts = [*filter(None, dict.fromkeys(models)), listed([its.label for its in say])]
    rates = [rate for its in say for rate in its.rates]
    measured = sorted({rate.batch_size for rate in rates})
    placed = {rate.batch_size for rate in rates if rate.status is RateStatus.INTERIOR}
    if ends := [str(size) for size in measured if size not in placed]:
        facts.append(f"no best rate inside its rates at batch size {listed(ends)}")
    if any(not measured[0] <= size <= measured[-1] for size in sizes):
        facts.append(f"beyond its batch sizes, {measured[0]} to {measured[-1]}, LR ~ root B")
    return f"run {run} ({'; '.join(facts)})"
