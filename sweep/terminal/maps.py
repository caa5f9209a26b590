"""The cells of each grid in the terminal: learning rates down, batch sizes across."""

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from analysis import benchmarks
from analysis.text import number, rate, title
from sweep.storage.ranking import Scored
from sweep.storage.status.reader import RunStatus, TrialStatus
from sweep.terminal import words

SIGNS = {"ok": "*", "diverged": "x", "failed": "!", "running": ">", "planned": "."}

STYLES = {"ok": "green", "diverged": "yellow", "failed": "red", "running": "cyan", "planned": "dim"}


def all_maps(run: RunStatus) -> Iterator[RenderableType]:
    """A map of each stage and arm with several cells; of the others, a line."""
    groups = words.groups(run)
    lines = [words.group(*group) for group in groups if not words.has_map(group.trials)]
    if lines:
        yield from ("", *map(Text, lines))
    for group in groups:
        if words.has_map(group.trials):
            yield ""
            yield Map(*group, run)


def needed(console: Console, options: ConsoleOptions, table: Table) -> int:
    """The columns of the terminal that a table takes where nothing of it is cut or folded."""
    return console.measure(table, options=options.update(max_width=10_000)).maximum


class Map:
    """The score of each cell, or its state; a sign for each where words do not fit."""

    def __init__(self, stage: str, arm: str, trials: Sequence[TrialStatus], run: RunStatus):
        self._title = title(stage, arm)
        self._cells = words.cells(trials)
        scored = {name: known for (of, name), known in run.scores.items() if of == stage and known}
        self._benchmark = next(iter(scored), "")
        self._scores: dict[str, Scored] = scored.get(self._benchmark, {})

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        sizes = sorted({size for _, size in self._cells})
        table = self._table(sizes, signs=False)
        if needed(console, options, table) <= options.max_width:
            label = benchmarks.task(self._benchmark).label if self._benchmark else ""
            what = f"{label}, or the state of the cell" if label else "state"
            yield Text(f"{self._title}: {what}")
            yield table
            return
        legend = ", ".join(f"{sign} {state}" for state, sign in SIGNS.items())
        yield Text(f"{self._title}: {legend}")
        at_once = len(sizes)
        while at_once > 1 and (
            needed(console, options, self._table(sizes[-at_once:], signs=True)) > options.max_width
        ):
            at_once -= 1
        for first in range(0, len(sizes), at_once):
            yield self._table(sizes[first : first + at_once], signs=True)

    def _table(self, sizes: Sequence[int], signs: bool) -> Table:
        table = Table(box=None, padding=(0, 1 if signs else 2, 0, 0))
        table.add_column("LR / batch", no_wrap=True)
        for size in sizes:
            table.add_column(str(size), justify="right", no_wrap=True)
        for learning_rate in sorted({at for at, _ in self._cells}):
            cells = [self._cells.get((learning_rate, size)) for size in sizes]
            row = (Text() if trials is None else self._cell(trials, signs) for trials in cells)
            table.add_row(rate(learning_rate), *row)
        return table

    def _cell(self, trials: list[TrialStatus], sign: bool) -> Text:
        state = words.cell_state(trials)
        scores = [self._scores[trial.key].value for trial in trials if trial.key in self._scores]
        known = [value for value in scores if value is not None]
        text = SIGNS[state] if sign else words.cell_word(trials)
        if known and state == "ok" and not sign:
            text = number(sum(known) / len(known), 3)
        return Text(text, style=STYLES[state])
