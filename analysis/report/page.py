"""What the templates show: a page, a run on it, a grid of the run, and a third axis over its grids.

Each template names these fields; one that is not there ends the rendering with an error.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from analysis.advice.advise import Advice
from analysis.advice.confounds import Confounds
from analysis.advice.without_contaminated import Change, Clean
from analysis.audit.tables import Audit
from analysis.compare.compare_paper import Beside
from analysis.compare.compare_runs import Comparison
from analysis.figures.scaling_rules import NoiseScale
from analysis.report.answered import Answered
from analysis.report.evidence import ChosenRow
from analysis.report.summary_tables import Progress
from analysis.tables.recipe import Recipe


class Panel(NamedTuple):
    """One surface: its figures as SVG text by kind, the name of its files, its record for the
    page's interactive figures."""

    label: str
    metric: str
    figures: dict[str, Markup]
    name: str
    record: dict[str, Any]


class Decontaminated(NamedTuple):
    """One grid without the contaminated items: mean scores both ways, a row per benchmark that has
    some, and what becomes of the answers."""

    scores: list[dict[str, Any]]
    changes: list[Change]


class GridPage(NamedTuple):
    """One grid.

    `panels` are of the fitted surfaces, `surfaces` the records of all for the interactive figures,
    `curves` the training curves for these. `noise` is label and source per surface. `before` has
    the primary scores of the model that training starts from. `trials` are those that the page
    lists, of `trials_in_all`; `counts` are by status. `confounds` stand with the first arm of a
    stage alone.
    """

    id: str
    title: str
    answered: Answered
    advice: Advice
    panels: list[Panel]
    figures_embedded: bool
    surfaces: list[dict[str, Any]]
    curves: dict[str, Any] | None
    chosen: list[ChosenRow]
    descriptions: list[dict[str, Any]]
    noise_scale: NoiseScale | None
    recipe: Recipe
    noise: list[tuple[str, str]]
    before: dict[str, float]
    benchmarks: list[str]
    trials: list[dict[str, Any]]
    trials_in_all: int
    counts: dict[str, int]
    decontaminated: Decontaminated
    confounds: Confounds | None


class AxisRow(NamedTuple):
    """One value of the setting in the table, each column as text."""

    value: str
    score: str
    p_best: str
    rates: list[str]
    shift: str
    difference: str


class AxisBenchmark(NamedTuple):
    """One benchmark: its figure as SVG, the name of the files, and its table."""

    label: str
    metric: str
    figure: Markup
    file: str
    first: str
    batch_sizes: list[int]
    rows: list[AxisRow]
    sentences: list[str]


class AxisPage(NamedTuple):
    """A third axis."""

    id: str
    title: str
    name: str
    notes: list[str]
    benchmarks: list[AxisBenchmark]


class Singles(NamedTuple):
    """Trials outside every grid: their benchmarks, those that the page lists, how many there
    are."""

    benchmarks: list[str]
    trials: list[dict[str, Any]]
    trials_in_all: int


class RunPage(NamedTuple):
    """One source. `data`, `audit_page` and `without_contaminated_data` are files beside the page;
    `axes_record` is that of `axes` in recommendations.json. `facts` are label and text. `reading`
    says how a table was read; `without_contaminated` is None where no audit looked for such
    items."""

    name: str
    data: str
    axes: list[AxisPage]
    axes_record: list[dict[str, Any]]
    facts: list[tuple[str, str]]
    progress: Progress | None
    grids: list[GridPage]
    singles: Singles
    audited: Audit | None
    audit_page: str
    without_contaminated: Clean | None
    without_contaminated_data: str
    published_tables: Sequence[Beside]
    reading: Sequence[str]


class ReportPage(NamedTuple):
    """The whole page; with `several` runs their comparison stands first."""

    name: str
    several: bool
    comparison: Comparison
    runs: list[RunPage]
