"""Data is tokenised once, before any trial; trials only open it."""

from collections.abc import Callable, Iterable
from pathlib import Path

from sweep.execution.job import Job
from sweep.gridfile.keys.schema import REFERENCE
from sweep.resolve.resolve import CannotStart
from trainers.data import prepare_process, row_counts
from trainers.data.prepare_process import PrepareFailed, Request
from trainers.data.row_counts import Preparation
from trainers.data.rows import sources

FEW_ROWS = 20_000
"""Data sets of at most so many rows are prepared in the driver's process where trials run there
too: starting another process takes longer."""


def prepare_data(
    jobs: Iterable[Job], cache: Path, local: bool, meanwhile: Callable[[], None]
) -> list[Preparation]:
    """Tokenise what the jobs read, on all cores; returns the count of rows of each data set.

    `meanwhile` is called while another process tokenises.

    Raises:
        CannotStart: the data cannot be had or cannot be used.
    """
    jobs = list(jobs)
    read = [job.trial.spec for job in jobs] + [w.heldout for job in jobs for w in job.wanted]
    by_batch_size = sorted((s for s in read if s is not None), key=lambda s: s.batch_size)
    # Of specs that share their data the one with the largest batch, whose rows must suffice.
    specs = {str(row_counts.asked(spec)): spec for spec in by_batch_size}
    if not specs:
        return []
    model = next(job.trial.model for job in jobs if job.trial.stage != REFERENCE)
    request = Request(
        model=model.name,
        revision=model.revision,
        specs=tuple(specs.values()),
        cache=str(cache),
    )
    rows = [sources.total(spec.sources) for spec in request.specs]
    few = all(number is not None and number <= FEW_ROWS for number in rows)
    try:
        if local and few:
            return prepare_process.prepare_here(request)
        with prepare_process.preparing(request) as prepared:
            meanwhile()
            return prepared()
    except PrepareFailed as error:
        raise CannotStart(str(error)) from error
