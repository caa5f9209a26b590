"""The screening runs of a run that decides (`decide.fidelity`): where they put its start, read from
the records, and the sentences that say so."""

from collections.abc import Collection, Sequence

import pandas as pd

from analysis.benchmarks import task
from analysis.design import screening
from analysis.design.screening import Agreement
from analysis.design.space import Cell, Space, Tried
from analysis.design.start import Expected
from analysis.fit.surface import fit
from analysis.posterior.cells import surfaces
from analysis.tables.records.screening import only, without
from analysis.text import counted, listed, rate
from sweep.gridfile.keys.schema import Grid, Stage
from sweep.gridfile.screening import share_of
from sweep.plan.trials import Trial


class Screening:
    """`trials` are all that there are to be."""

    def __init__(self, grid: Grid, stage: Stage, planned: Sequence[Trial], space: Space):
        self.stage = stage
        self.trials = [trial for trial in planned if trial.stage == stage.name]
        compared = (stage.name, stage.screens)
        self._keys = {trial.key for trial in planned if trial.stage in compared}
        self._sentences: list[str] = []
        self._given = 0
        self._space = space
        self._length = f"{share_of(grid, stage):.2g} of the length"
        self._known: tuple[Expected | None] | None = None

    def expected(
        self,
        whole: pd.DataFrame,
        items: pd.DataFrame,
        tried: Sequence[Tried],
        allowed: Collection[Cell],
    ) -> Expected | None:
        """Where the start lies; None while nothing is known of it, or nothing any more. Asked once
        the screening runs have ended; `whole` and `items` are the tables of the run, of which the
        rows from before an edit of the grid file are left out."""
        whole = whole.loc[whole.key.isin(self._keys)]
        short = only(whole)
        if self._known is None:
            self._known = (self._centre(short, items),)
        expected = self._known[0]
        if expected is None:
            return None
        full = without(whole)
        kept, agreed = screening.standing(expected, tried, self._space, allowed, short, full)
        if kept is None or agreed is not None:
            self._tell(self._verdict(agreed, kept is not None))
        return kept

    def _centre(self, short: pd.DataFrame, items: pd.DataFrame) -> Expected | None:
        cells = [
            Cell(trial.spec.learning_rate, trial.spec.batch_size, trial.spec.seed)
            for trial in self.trials
            if trial.spec is not None
        ]
        runs = f"{counted(len(cells), 'screening run')} of {self._length}"
        if not len(short):
            self._tell("the run had begun without screening runs, so none is run")
            return None
        results = short.loc[short.status.isin(["ok", "diverged"])].key.nunique()
        if not results:
            self._tell(f"none of {runs} has a result; the start is spread over the grid")
            return None
        if results < len(cells):
            runs = f"{results} of {runs}"
        fits = [fit(its) for its in surfaces(short, items)]
        expected = screening.expected(fits, self._space, cells, runs)
        if expected is None:
            self._tell(f"{runs} do not differ beyond noise; the start is spread over the grid")
            return None
        places = [f"{rate(r)} at batch size {size}" for size, r in expected.rates.items()]
        self._tell(f"{runs} put the best learning rate near {listed(places)}; the start lies there")
        return expected

    def _verdict(self, agreed: Agreement | None, stands: bool) -> str:
        if agreed is None:
            return "too few cells ran short and in full to compare; screening is refused"
        interval = f"95 % interval {agreed.low:.2f} to {agreed.high:.2f}"
        scores = listed([task(name).label for name in agreed.scores])
        cells = f"{agreed.cells} cells by {scores}"
        figures = f"Spearman's rho {agreed.rho:.2f}, {interval}, of {cells}"
        if stands:
            return f"learning rates rank alike at {self._length} and in full ({figures})"
        return (
            f"learning rates do not rank alike at {self._length} and in full ({figures}); "
            "screening is refused, and the start is spread over the grid after all"
        )

    def news(self) -> list[str]:
        """What it has come to since this was last asked, in sentences."""
        fresh = self._sentences[self._given :]
        self._given += len(fresh)
        return fresh

    def _tell(self, sentence: str) -> None:
        if sentence not in self._sentences:
            self._sentences.append(sentence)
