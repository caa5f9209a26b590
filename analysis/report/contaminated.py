"""What becomes of a grid's scores and recommendations without contaminated items."""

from analysis.advice import without_contaminated
from analysis.advice.advise import Advice, advise
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.report.page import Decontaminated


def without_leaks(advice: Advice, clean: without_contaminated.Clean | None) -> Decontaminated:
    """Of one grid; `clean` is None where no audit looked for contaminated items."""
    if clean is None:
        return Decontaminated([], [])
    here = (clean.scores.stage == advice.stage) & (clean.scores.arm == advice.arm)
    scores = clean.scores.loc[here]
    touched = set(scores.benchmark)
    rows = clean.frame.loc[
        (clean.frame.stage == advice.stage)
        & (clean.frame.arm == advice.arm)
        & clean.frame.benchmark.isin(touched)
    ]
    refitted = {cells.benchmark: fit(cells) for cells in surfaces(rows, clean.items)}
    after = advise(
        refitted[fit.cells.benchmark] if fit.cells.benchmark in touched else fit
        for fit in advice.fits
        if fit.cells.benchmark not in touched or fit.cells.benchmark in refitted
    )
    return Decontaminated(
        scores=without_contaminated.summary(scores),
        changes=without_contaminated.changes(advice.answers, after[0].answers, touched)
        if after
        else [],
    )
