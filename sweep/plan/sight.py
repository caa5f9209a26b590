"""What a grid can see, for its dry run: `analysis.design.power` for the file's cells, seeds and
items."""

import math
from collections.abc import Iterator

import numpy as np

from analysis.benchmarks import task
from analysis.design import power
from analysis.design.power import Expected, Layout
from analysis.text import listed
from sweep.gridfile import choosing
from sweep.gridfile.keys.schema import Grid, Stage
from sweep.plan.widen import decided_stage
from trainers.tasks import benchmarks, item_counts

FEWEST = 3
"""Learning rates below which nothing is placed."""

WIDER = 2.0
"""Octaves that a wider rate axis has more."""


def lines(grid: Grid) -> Iterator[str]:
    """Of each stage with three learning rates or more: what is to be expected of each benchmark
    whose usual level is known, the difference of types that would be seen, and what would help."""
    for stage in grid.stages.values():
        if stage.screens:
            continue
        alike: dict[tuple[float, ...], list[str]] = {}
        for arm in dict.fromkeys(arm for arm, _ in stage.cells):
            layout = layout_of(grid, stage, arm)
            if len(set(layout.x)) >= FEWEST:
                alike.setdefault(_shape(layout), []).append(arm)
        for arms in alike.values():
            name = f"{stage.name} ({listed(arms)})" if len(alike) > 1 else stage.name
            yield from _of_stage(grid, stage, name, layout_of(grid, stage, arms[0]))


def layout_of(grid: Grid, stage: Stage, arm: str) -> Layout:
    """Settings of an arm; of a run that chooses its cells, with the seeds that its trials make
    up."""
    cells = [spec for name, spec in stage.cells if name == arm]
    settings = sorted({(spec.learning_rate, spec.batch_size) for spec in cells})
    trials = len(cells)
    if grid.decide is not None and stage.name == decided_stage(grid).name:
        trials = grid.decide.trials
    if grid.search is not None and stage.searched_axes:
        of_grid = math.prod(map(len, stage.searched_axes.values()))
        trials *= min(grid.search.trials / of_grid, 1)
    x, y = np.log2(np.array(settings, dtype=float)).T
    return Layout(tuple(x), tuple(y), trials / len(settings))


def _shape(layout: Layout) -> tuple[float, ...]:
    """What is the same for layouts that see the same: which rates and sizes they lie about tells
    nothing."""
    places = [value - axis[0] for axis in (layout.x, layout.y) for value in axis]
    return (round(layout.seeds, 3), *(round(place, 2) for place in places))


def _of_stage(grid: Grid, stage: Stage, label: str, layout: Layout) -> Iterator[str]:
    names = [n for n in choosing.measured(stage, grid.stages, grid.evaluate) if n in power.USUAL]
    if not names:
        return
    expected = {name: _expected(grid, name, layout) for name in names}
    yield (
        f"{label} would see, where the rates move a benchmark by a third of what lies between "
        f"its usual level and guessing, half of that within {power.HALF_AT:g} octaves:"
    )
    for name, one in expected.items():
        label = task(name).label
        if one.answers:
            yield f"  {label}: the best learning rate within {one.width:.1f} octaves"
        else:
            yield f"  {label} cannot answer ({one.why}); {_change(grid, name, layout)}"
    kinds = {
        kind: [expected[name] for name in names if task(name).task_type == kind]
        for kind in ("reasoning", "pattern")
    }
    if not all(kinds.values()):
        return
    smallest = power.visible(kinds["reasoning"], kinds["pattern"])
    if smallest is None:
        yield "  task types cannot be told apart: a type has no benchmark that can answer"
    else:
        yield f"  task types: a difference of {smallest:.1f} octaves, with a chance of 80 %"


def _expected(grid: Grid, name: str, layout: Layout, every_item: bool = False) -> Expected:
    benchmark, known = benchmarks.find(name), task(name)
    spec = grid.evaluate.model_copy(update={"limit": None}) if every_item else grid.evaluate
    items = item_counts.scored(benchmark, spec) or benchmark.items or 0
    return power.expected(layout, name, power.USUAL[name], known.chance or 0.0, items)


def _change(grid: Grid, name: str, layout: Layout) -> str:
    """The cheapest change with which the benchmark can answer."""
    middle = sum(layout.x) / len(layout.x)
    stretch = 1 + WIDER / layout.span
    wide = layout._replace(x=tuple(middle + stretch * (x - middle) for x in layout.x))
    seeds = layout._replace(seeds=2 * layout.seeds)
    more = "trials" if grid.decide or (grid.search and layout.seeds < 1) else "seeds"
    ways = [
        ("the same rates spread over two octaves more", _expected(grid, name, wide)),
        ("all of its items", _expected(grid, name, layout, every_item=True)),
        (f"twice the {more}", _expected(grid, name, seeds)),
        ("all three", _expected(grid, name, wide._replace(seeds=seeds.seeds), every_item=True)),
    ]
    if grid.evaluate.limit is None:
        ways = [(words, layout) for words, layout in ways if words not in ("all of its items",)]
        ways[-1] = ("both", ways[-1][1])
    helps = [words for words, layout in ways if layout.answers]
    if helps:
        return f"with {helps[0]} it can"
    others = listed([words for words, _ in ways[:-1]])
    return f"{others} would not do; its continuous companion says more"
