"""Where the first cells of a run that decides lie: about published rates, or an earlier run's.

Looked up once and kept in the run folder, so that every start of the command begins the same way.
"""

from pathlib import Path

from analysis.advice.answers import answers
from analysis.design.screening import centres
from analysis.design.space import Space
from analysis.design.start import Expected
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.tables import load
from analysis.tables.records import run_table
from sweep.gridfile.keys.choosers import NO_PRIOR, PUBLISHED
from sweep.gridfile.keys.schema import Grid, Stage
from sweep.plan import starting_points
from sweep.resolve.resolve import CannotStart
from trainers import files
from trainers.models import at_hand

ROOT_RULE = 0.5
"""The rate follows the root of the batch size where Adam's gradients are mostly noise (Malladi et
al. 2022, arXiv 2205.10287)."""

KEPT = "prior.json"
"""In decide/ of the run folder."""


def expected(grid: Grid, stage: Stage, space: Space, folder: Path) -> Expected | None:
    """None for a grid without a prior.

    Raises:
        CannotStart: the earlier run has no result that says anything.
    """
    assert grid.decide is not None, "the grid does not decide"
    prior = grid.decide.prior
    if prior == NO_PRIOR:
        return None
    sizes = space.batch_sizes
    kept = files.read_json(folder / KEPT)
    if kept and kept["prior"] == prior and kept["batch_sizes"] == list(sizes):
        return Expected(dict(zip(sizes, kept["learning_rates"], strict=True)), kept["source"])
    new = _published(grid, stage, sizes) if prior == PUBLISHED else _earlier(prior, stage, sizes)
    folder.mkdir(parents=True, exist_ok=True)
    rates = [new.rates[size] for size in sizes]
    facts = {"prior": prior, "batch_sizes": list(sizes), "learning_rates": rates}
    files.write_json(folder / KEPT, facts | {"source": new.source})
    return new


def _published(grid: Grid, stage: Stage, sizes: tuple[int, ...]) -> Expected:
    kind = stage.cells[0][1].kind
    known = at_hand.parameters(grid.model.name)
    middle = starting_points.centre(kind, known or starting_points.ANCHOR_PARAMETERS)
    rates = {size: middle.learning_rate * (size / middle.batch_size) ** ROOT_RULE for size in sizes}
    size = f"at {known / 1e6:,.0f} M parameters" if known else "the model's size is not known"
    source = starting_points.PUBLISHED[kind].source
    return Expected(rates, f"{source}; {size} by {starting_points.STEP_LAW}; LR ~ root B")


def _earlier(run: str, stage: Stage, sizes: tuple[int, ...]) -> Expected:
    """The middle over the benchmarks of that run's LR*(B), interior ones where there are any."""
    frame, items = load.read(Path(run)), run_table.items(Path(run))
    names = list(dict.fromkeys(frame.stage))
    frame = frame.loc[frame.stage == stage.name]
    given = answers([fit(cells) for cells in surfaces(frame, items)]) if len(frame) else None
    rates = [rate for its in given.benchmarks.values() for rate in its.rates] if given else []
    if not rates:
        raise CannotStart(
            f"decide.prior: {run} has no results of a stage {stage.name!r} over learning rates "
            f"(its stages: {', '.join(names) or 'none'}); give another run, or none"
        )
    return Expected(centres(rates, sizes), f"run {run}")
