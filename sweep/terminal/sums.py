"""What is said of a plan as a whole: its passes, disk, memory, cost and hours."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from analysis.text import listed
from sweep.gridfile.keys.schema import Grid
from sweep.gridfile.screening import screening_stage, share_of
from sweep.plan import reference_passes
from sweep.plan.bundles import Bundles
from sweep.plan.disk import disk, running_at_once
from sweep.plan.trials import Cost, Trial
from sweep.plan.widen import at_most, every
from sweep.price import chosen, money
from sweep.price.calibration import Calibration, unmeasured
from sweep.price.cost import Price, places, slots, total, wall_hours
from sweep.terminal import memory
from sweep.terminal.quantities import bytes_, count, flops, hours, plural
from trainers.models import at_hand
from trainers.tasks import benchmarks

ESTIMATED = " (estimated; --calibrate measures it)"
OF_ONE = " (measured in one process, divided by the processes of a trial)"
STATED = " (at training's FLOP/s, which generation does not reach)"


def sums(
    grid: Grid,
    planned: list[Trial],
    costs: list[Cost],
    priced: Callable[[int], list[Price]],
    measured: Calibration | None,
) -> Iterator[str]:
    """Lines about all of a plan; `priced` has the prices where so many trials, or passes over
    several, run at once."""
    at_once = slots(grid, measured)
    shares = chosen.shares(grid, planned).values()
    most = "at most " if set(shares) != {1.0} else ""
    prices = [chosen.scaled(*one) for one in zip(priced(at_once), shares, strict=True)]
    trained = sum(trial.spec is not None for trial in planned)
    untrained = len(planned) - trained
    steps = _total(cost.steps for cost in costs)
    yield (
        f"{plural(trained, 'trial')}, {count(steps)} optimizer steps; "
        f"{plural(len(planned), 'model')} to score ({trained} trained, {untrained} untrained) "
        f"on {', '.join(grid.evaluate.benchmarks) or 'held-out data'}"
    )
    if trained:
        lanes = Bundles(grid).expected(planned, at_once)
        yield from _passes(grid, planned, lanes, at_once)
        yield from Bundles(grid).lines(planned)
        yield _space(grid, planned)
        yield from memory.lines(grid, planned, lanes)
    whole = total(prices)
    if whole.tokens is not None:
        yield (
            f"training: {most}{count(round(whole.tokens))} tokens, {flops(whole.train_flops)}; "
            f"evaluation: {flops(whole.eval_flops)}"
        )
    if passes := reference_passes.expected(planned):
        yield (
            f"reference passes: {passes} beside the trials, each a forward pass over all pairs (a "
            "third of an epoch, or half of one under an adapter); in no hours or cost below"
        )
    for name, stage in grid.stages.items():
        spec = stage.cells[0][1]
        if spec.kind == "rlvr" and spec.heldout != 0 and not stage.screens:
            yield (
                f"held-out prompts of {name}: answers of up to {spec.max_new_tokens:,} tokens each "
                "by its models and by those that it may start from; in no hours or cost below"
            )
    if cost_of_all := money.sentence(grid, planned, prices, most):
        yield cost_of_all
    if grid.decide is not None:
        yield (
            f"decide: at most {grid.decide.trials} trials run, chosen as results come in, among "
            "these cells, their replicates and cells beyond the borders"
        )
        if (short := screening_stage(grid)) is not None:
            share = share_of(grid, short)
            yield (
                f"fidelity: {len(short.cells)} screening runs come first, beside them, each of "
                f"{share:.2g} of the length; together they are as long as "
                f"{share * len(short.cells):.1f} trials"
            )
    if grid.search is not None:
        yield f"search: {grid.search.trials} of these cells will run, chosen as results come in"
    if whole.hours is None and measured and (lacking := unmeasured(grid, measured)):
        yield f"hours: unknown; --calibrate has not measured {listed(lacking)}: measure again"
        return
    if whole.hours is None:
        yield _hours_unknown(grid, planned, whole)
        return
    on_gpu = grid.most_gpus.gpus_per_trial > 0
    stated = ESTIMATED if on_gpu else STATED
    if measured is not None:
        several = max(grid.trial_resources(name).ranks for name in grid.scored_stages) > 1
        stated = OF_ONE if several else ""
    yield (
        f"one trial after another: training {most}{hours(whole.train_hours)}, evaluation "
        f"{hours(whole.eval_hours)}{stated}; {_device_hours(grid, planned, prices)}"
    )
    bound, all_cells = chosen.most_at_once(grid), total(priced(at_once)).hours
    walls = []
    for place, there in places(grid, measured).items():
        many = min(there, bound or there)
        taken = wall_hours(grid, planned, priced(many), many, measured)
        if taken is not None and all_cells:
            taken *= whole.hours / all_cells
        walls.append(f"about {hours(taken)} {place} ({many} at once)")
    if walls:
        yield f"wall time: {most}{', '.join(walls)}"


def _hours_unknown(grid: Grid, planned: list[Trial], whole: Price) -> str:
    names = dict.fromkeys(trial.model.name for trial in planned)
    unknown = [f"the size of {name}" for name in names if at_hand.parameters(name) is None]
    scored = [name for name in grid.evaluate.benchmarks if name not in benchmarks.OF_STAGES]
    for benchmark in map(benchmarks.find, scored):
        if benchmark.items is None or benchmark.tokens_per_item is None:
            unknown.append(f"how many tokens {benchmark.name} has")
    known = "" if whole.train_hours is None else f"training {hours(whole.train_hours)}, in all "
    why = f" (the plan does not know {listed(unknown)})" if unknown else ""
    other = ", or give price.tokens_per_second" if whole.train_hours is None else ""
    return f"hours: {known}unknown{why}; --calibrate measures them{other}"


def _passes(grid: Grid, planned: list[Trial], lanes: dict[str, int], at_once: int) -> Iterator[str]:
    """Of the stages whose cells are trained several in a pass."""
    for name in grid.stages:
        sizes = Counter(lanes[trial.key] for trial in planned if trial.stage == name)
        most = max(sizes, default=1)
        if most > 1:
            passes = sum(count // size for size, count in sizes.items())
            yield (
                f"lanes: {plural(sizes.total(), 'trial')} of {name} in "
                f"{plural(passes, 'pass', 'es')} of up to {most}, where {at_once} run at once and "
                "memory holds them"
            )


def _space(grid: Grid, planned: list[Trial]) -> str:
    space = disk(grid, at_most(grid, every(grid, planned)))
    if space.peak is None:
        return "disk: unknown until the model is on this machine"
    keeps = ", ".join(f"{name} {stage.keep}" for name, stage in grid.stages.items())
    return (
        f"disk: {bytes_(space.kept)} of weights kept ({keeps}), up to {bytes_(space.peak)} at one "
        f"time with the checkpoints of {running_at_once(grid.most_gpus)} at once"
    )


def _device_hours(grid: Grid, planned: list[Trial], prices: list[Price]) -> str:
    asked = [
        (grid.trial_resources(trial.stage), trial_price.hours or 0.0)
        for trial, trial_price in zip(planned, prices, strict=True)
    ]
    gpus = sum(resources.gpus_per_trial * hours for resources, hours in asked)
    cpus = sum(resources.cpus_per_trial * hours for resources, hours in asked)
    return f"{gpus:,.1f} GPU hours" if gpus else f"{cpus:,.2f} CPU hours"


def _total(values: Iterable[int | None]) -> int | None:
    numbers = list(values)
    return None if None in numbers else sum(n for n in numbers if n is not None)
