"""Data is tokenised once, before any trial; trials only open it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from sweep.execution.job import Job
from sweep.gridfile.keys.schema import REFERENCE, Stage
from sweep.resolve.resolve import CannotStart
from trainers.data import prepare_process, row_counts
from trainers.data.prepare_process import PrepareFailed, Request
from trainers.data.row_counts import Preparation
from trainers.data.rows import sources
from trainers.specs.kinds import StageSpec

FEW_ROWS = 20_000
"""Data sets of at most so many rows are prepared in the driver's process where trials run there
too: starting another process takes longer."""


Read = tuple[StageSpec, str | None]
"""Data, and the file of the chat template that the model who reads it has from an earlier stage."""


def prepare_data(
    jobs: Iterable[Job],
    stages: Mapping[str, Stage],
    cache: Path,
    local: bool,
    meanwhile: Callable[[], None],
) -> list[Preparation]:
    """Tokenise what the jobs of these stages read, on all cores; returns the count of rows of each
    data set.

    `meanwhile` is called while another process tokenises.

    Raises:
        CannotStart: the data cannot be had or cannot be used.
    """
    jobs = list(jobs)
    by_batch_size = sorted(
        (read for job in jobs for read in _read(job, stages)), key=lambda read: read[0].batch_size
    )
    # Of specs that share their data the one with the largest batch, whose rows must suffice.
    read = {(str(row_counts.asked(spec)), template): spec for spec, template in by_batch_size}
    if not read:
        return []
    model = next(job.trial.model for job in jobs if job.trial.stage != REFERENCE)
    request = Request(
        model=model.name,
        revision=model.revision,
        specs=tuple(read.values()),
        templates=tuple(template for _, template in read),
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


def _read(job: Job, stages: Mapping[str, Stage]) -> Iterator[Read]:
    """What a job trains on, and what its model is scored on."""
    spec = job.trial.spec
    before = _templates(stages, stages[job.trial.stage].start_from) if spec else [None]
    after = before if spec is None or spec.chat_template is None else [spec.chat_template]
    for read, templates in [(spec, before), *((want.heldout, after) for want in job.wanted)]:
        if read is not None:
            own = read.chat_template is not None
            yield from ((read, template) for template in ([None] if own else templates))


def _templates(stages: Mapping[str, Stage], name: str) -> list[str | None]:
    """Files of the chat templates that models of a stage may have: their cell's, or that of the
    model which they start from; None for its own."""
    if name not in stages:
        return [None]
    own = dict.fromkeys(spec.chat_template for _, spec in stages[name].cells)
    given = [template for template in own if template is not None]
    return given + (_templates(stages, stages[name].start_from) if None in own else [])
