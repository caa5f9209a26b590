"""What is said of one grid: its answers in sentences, and what to run next."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.advice import grid_file
from analysis.advice.advise import Advice
from analysis.advice.answers import Answers
from analysis.advice.grid_file import GridFile
from analysis.advice.next_grid import NextStep, next_step
from analysis.compare.source import Source
from analysis.fit.unit import unit_of
from analysis.report import overview
from analysis.report.overview import Overview
from analysis.report.words import sentences, setting_sentences
from analysis.report.words.sentences import RateRow
from analysis.tables.records.decided import read_decided
from analysis.tables.records.plan_file import read_plan, to_come
from analysis.text import Unit, counted, listed


class Answered:
    """The answers of one grid with what is said about them; made once, shown everywhere."""

    def __init__(
        self,
        answers: Answers,
        units: Mapping[str, Unit],
        overview: Overview,
        next_step: NextStep,
    ) -> None:
        self.answers = answers
        self.overview = overview
        self.next_step = next_step
        self.type_rates = answers.type_rates
        benchmarks = answers.benchmarks.values()
        self.sized = all(benchmark.sized for benchmark in benchmarks)
        scored = dict.fromkeys(gain.cell for gain in overview.gains if gain.best != "-")
        self.headline = setting_sentences.headline(answers.settings, self.sized, list(scored))
        if overview.worse_than_before:
            labels = listed(overview.worse_than_before)
            self.headline += f" No cell beats the model before training on {labels}."
        self.rates = [sentences.rates(benchmark) for benchmark in benchmarks]
        self.ratio = [
            sentences.ratio(benchmark, units[benchmark.benchmark]) for benchmark in benchmarks
        ]
        self.gamma = [sentences.gamma(benchmark) for benchmark in benchmarks]
        self.batch_size = [
            sentences.batch_size(benchmark, units[benchmark.benchmark]) for benchmark in benchmarks
        ]
        shared = [*answers.settings, *([answers.mix] if answers.mix else [])]
        self.shared_settings = [
            setting_sentences.setting(setting, units, self.sized) for setting in shared
        ]
        each = [benchmark.setting for benchmark in benchmarks if benchmark.setting is not None]
        self.every_setting = list(
            dict.fromkeys(
                [
                    *self.shared_settings,
                    *(setting_sentences.setting(setting, units, self.sized) for setting in each),
                ]
            )
        )
        self.contrast = sentences.contrast(answers.contrast)
        self.rules = [(rule, sentences.rule(rule, units)) for rule in answers.rules]

    @property
    def one_batch_size(self) -> bool:
        """Only one was measured, so that questions about the batch size cannot be asked."""
        return all(len(table.sizes) < 2 for table in self.overview.tables)

    @property
    def one_learning_rate(self) -> bool:
        """Only one was measured, so that none can be the best."""
        return all(len(table.rows) < 2 for table in self.overview.tables)

    @property
    def rate_columns(self) -> list[str]:
        """Labels of the columns of the table of learning rates."""
        return [label for label, _ in self.answers.columns]

    @property
    def rate_notes(self) -> list[str]:
        """A sentence for each task type whose rates do not rest on all of its cells."""
        return [
            f"{self.answers.task_types[kind].label}: over the {counted(count, 'cell')} that ended "
            "alike on all of its benchmarks."
            for kind, count in self.answers.type_cells.items()
            if kind in self.type_rates
        ]

    @property
    def rate_rows(self) -> list[RateRow]:
        """The table of learning rates, a row per batch size, a text per column."""
        return sentences.rate_rows([rates for _, rates in self.answers.columns])

    @property
    def benchmark_rates(self) -> list[RateRow]:
        """The same with a column for every benchmark."""
        benchmarks = self.answers.benchmarks.values()
        return sentences.rate_rows([benchmark.rates for benchmark in benchmarks])


def answer(advice: Advice, source: Source, here: pd.DataFrame) -> Answered:
    """The first screen and the seven answers of one grid; `here` are its rows."""
    given = advice.answers
    cells = [fit.cells for fit in advice.fits]
    return Answered(
        given,
        {grid_cells.benchmark: unit_of(grid_cells) for grid_cells in cells},
        overview.overview(advice.fits, given.benchmarks, source.frame, source.items),
        _next_step(advice, source),
    )


def _next_step(advice: Advice, source: Source) -> NextStep:
    """By all that has run: a row that `--where` leaves out is not to be run again."""
    rows = source.every_row.loc[source.every_row.stage == advice.stage]
    plan = None if source.folder is None else read_plan(source.folder)
    arms = _arms_to_add_to(rows, plan)
    if advice.arm not in arms or (plan is not None and advice.stage not in set(plan.stage)):
        gone = "The grid file has these cells no more, so none is added to them."
        return NextStep(gone, "", 0, {})
    written = grid_file.read(advice.stage, advice.arm, source.grid_file)
    stop = None
    if written.chooser == "decide" and source.folder is not None:
        stop = read_decided(source.folder).stop_within(written.trials)
    left = ""
    if stop is None and plan is not None:
        left = _to_come(advice.stage, written, plan, source)
    if left:
        return NextStep(f"{left} The same command goes on.", "", 0, {})
    stopped = "" if stop is None or stop.by == "budget" else stop.reason
    here = rows.loc[rows.arm == advice.arm]
    return next_step(advice.fits, advice.answers, here, source.grid_file, arms, plan, stopped)


def _to_come(stage: str, written: GridFile, plan: pd.DataFrame, source: Source) -> str:
    """What of a stage has not ended, in a sentence; "" where all has. A run that chooses its cells
    may plan more than it runs, or not yet all."""
    if not written.chooser:
        left = to_come(plan, source.every_row, stage)
        have = "trial has" if left == 1 else "trials have"
        return f"{left} planned {have} not ended." if left else ""
    planned = plan.key[plan.stage == stage]
    most = written.trials
    if written.chooser == "search":
        most = min(most * max(len(written.joined({"seed": []})["seed"]), 1), len(planned))
    ended = int(planned.isin(source.every_row.key).sum())
    return f"{ended} of the {most} trials that the run chooses have ended." if ended < most else ""


def _arms_to_add_to(rows: pd.DataFrame, plan: pd.DataFrame | None) -> list[str]:
    """Those of a stage with a trial in the plan; all where there is no plan of the stage."""
    rows = rows.loc[rows.learning_rate.notna()]
    planned: Any = rows if plan is None else rows[rows.key.isin(plan.key)]
    return list((planned if len(planned) else rows).arm.unique())
