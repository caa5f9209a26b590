"""How large a new grid may be: the largest whose plan takes no longer than the hours at hand."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from analysis.text import counted
from sweep import grid_template
from sweep.grid_template import (
    CORE_FLOPS,
    GPU_FLOPS,
    GPU_SOURCE,
    UTILISATION,
    Data,
    Place,
    Size,
    Wanted,
)
from sweep.gridfile.keys.schema import Grid
from sweep.plan import memory
from sweep.plan.trials import trials
from sweep.price import cost
from trainers.models import shapes
from trainers.processes import devices
from trainers.tasks import benchmarks

LADDER = ((5, 3, 1), (5, 4, 1), (6, 4, 1), (7, 5, 1), (7, 5, 2), (8, 6, 2), (10, 6, 2))
"""Learning rates, batch sizes, seeds: the rates span two octaves more than the batch sizes, or a
ratio's optimum lies outside at the ends."""

FEWEST_STEPS = 200
"""At the largest batch size; below it a rate is hardly tried."""

FEWEST_ITEMS = 100
"""Of a task, where scoring all of them would take too long."""

CARD = 80
"""GB of each GPU."""

SLACK = 0.9
"""Of the hours; the rest is for start-up and what was guessed wrong."""

TRIES = 6
"""To fit a size to the hours: a step's time and a task's items do not grow evenly."""

SCORES = 1 / 3
"""Of the hours, for scores at most."""

Loaded = Callable[[str], Grid]
"""The grid of a text."""


class _Plan(NamedTuple):
    """Hours, of all trials one after another and of the whole run; None where unknown."""

    train: float | None
    score: float | None
    wall: float | None


def text(wanted: Wanted, loaded: Loaded) -> str:
    """The text of the largest grid that the hours allow; of the smallest, with a note that says
    what it takes, where they allow none."""
    data = grid_template.known_data(wanted)
    place, notes = _place(wanted, data, loaded)
    for number, shape in enumerate(reversed(LADDER), 1):
        size, plan = _fitted(wanted, data, place, Size(*shape, data.tokens), loaded)
        enough = min(FEWEST_STEPS * wanted.sizes(size.batches)[1] * data.per_example, data.tokens)
        fits = size.tokens >= enough and (plan.wall or 0.0) <= wanted.hours
        if fits or number == len(LADDER):
            notes += _told(wanted, data, size, plan, enough)
            return grid_template.text(wanted, data, size, place, notes)
    raise AssertionError("the ladder has a last rung")


def _fitted(
    wanted: Wanted, data: Data, place: Place, size: Size, loaded: Loaded
) -> tuple[Size, _Plan]:
    """The size with as many tokens and items as the hours allow, and what it takes then."""
    at_once = _at_once(wanted, place)
    hours = SLACK * wanted.hours * at_once
    size = size._replace(tokens=min(size.tokens, _trained(wanted, place, hours / size.trials)))
    for _ in range(TRIES):
        plan = _planned(wanted, data, place, size, loaded, at_once)
        if plan.train is None or plan.score is None:
            return size, plan
        items = size.limit or max((_items(name) for name in wanted.benchmarks), default=0)
        if plan.score > SCORES * hours and items > FEWEST_ITEMS:
            limit = max(FEWEST_ITEMS, int(items * SCORES * hours / plan.score))
            size = size._replace(limit=limit)
            continue
        left = max(hours - plan.score, 0.01 * hours)
        if plan.train <= left:
            break
        size = size._replace(tokens=size.tokens * left / plan.train)
    return size, _planned(wanted, data, place, size, loaded, at_once)


def _items(name: str) -> int:
    return 0 if name in benchmarks.OF_STAGES else benchmarks.find(name).items or 0


def _at_once(wanted: Wanted, place: Place) -> int:
    if not wanted.gpus:
        return max(1, devices.cores())
    return max(1, devices.on_gpus(wanted.gpus, place.gpus))


def _trained(wanted: Wanted, place: Place, hours: float) -> float:
    """Tokens that a trial trains on in so many hours, by its FLOPs alone."""
    flops = GPU_FLOPS * UTILISATION * place.gpus if place.gpus else CORE_FLOPS
    return hours * 3600 * flops / (6 * wanted.size)


def _planned(
    wanted: Wanted, data: Data, place: Place, size: Size, loaded: Loaded, at_once: int
) -> _Plan:
    grid = loaded(grid_template.text(wanted, data, size, place, []))
    planned = trials(grid)
    prices = [cost.price(grid, trial, None) for trial in planned]
    whole = cost.total(prices)
    wall = cost.wall_hours(grid, planned, prices, at_once, None)
    return _Plan(whole.train_hours, whole.eval_hours, wall)


def _place(wanted: Wanted, data: Data, loaded: Loaded) -> tuple[Place, list[str]]:
    """The least that holds a trial, half a GPU where a model is small, and what is to be said."""
    if not wanted.gpus:
        return Place(0), []
    small = Place(0.5 if wanted.size <= 5e8 else 1)
    if shapes.shape(wanted.model) is None:
        return small, []
    grid = loaded(grid_template.text(wanted, data, Size(*LADDER[0], 1e6), small, []))
    (stage,) = grid.stages.values()
    spec = stage.cells[0][1]
    alone = memory.of_training(wanted.model, spec)
    for share in (0.5, 1):
        if alone is not None and share >= small.gpus and alone.least <= share * CARD * 10**9:
            return Place(share), []
    for ranks in memory.GPUS[1:]:
        for sharding in ("optimizer", "full"):
            held = memory.of_training(wanted.model, spec, sharding, ranks)
            if held and held.least <= CARD * 10**9 and ranks <= wanted.gpus:
                return Place(ranks, sharding), []
    return Place(max(1, wanted.gpus)), [
        f"No training of all weights fits {counted(wanted.gpus, 'GPU')} of {CARD} GB by the "
        "plan's estimate: give the stage an adapter, or take more GPUs."
    ]


def _told(wanted: Wanted, data: Data, size: Size, plan: _Plan, enough: float) -> Iterator[str]:
    source = GPU_SOURCE if wanted.gpus else f"{CORE_FLOPS:.0e} FLOP/s a core"
    if plan.wall is None:
        yield f"The plan cannot say what scoring takes; training was sized with {source}."
    else:
        more = ", more than there are" if plan.wall > wanted.hours else ""
        about = f"By the plan about {plan.wall:.2g} hours{more}"
        yield f"{about}, with {source}; --calibrate measures it."
    if size.tokens < enough:
        largest = wanted.sizes(size.batches)[1]
        steps = max(1, round(size.tokens / data.per_example / largest))
        yield (
            f"The hours allow {counted(steps, 'step')} at batch size {largest}; below "
            f"{FEWEST_STEPS} a learning rate is hardly tried."
        )
    if size.limit is not None:
        yield f"limit: all items of the benchmarks would take more than {SCORES:.0%} of the hours."
