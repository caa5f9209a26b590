"""What a third axis says of one benchmark, in sentences; every word computed from the draws."""

from analysis.benchmarks import task
from analysis.compare.axis_places import named
from analysis.compare.setting_axes import AtValue, OnBenchmark, SettingAxis
from analysis.fit.rates import RateStatus
from analysis.text import listed, probability, signed

FEW = 4
"""Of more values than these only those are named that differ; the table has them all."""


def sentences(axis: SettingAxis, on: OnBenchmark) -> list[str]:
    """Which value is the best, whether the best learning rate moves with it, and how far apart the
    best scores are; of different models only how the rate moves, since a larger one scores better
    whatever the rate."""
    if not axis.one_model:
        return [f"{on.label}: {moves(axis, on)}.", *left_out(axis, on)]
    lines = [f"{on.label}: {best_value(axis, on)}; {moves(axis, on)}.", *left_out(axis, on)]
    if len(on.values) > FEW:
        return lines
    return lines + [one.difference.sentence for one in on.values if one.difference is not None]


def notes(axis: SettingAxis) -> list[str]:
    """Which scores of the axis cannot be compared, and why."""
    if not axis.not_compared:
        return []
    labels = listed([task(name).label for name in axis.not_compared])
    return [
        f"{labels}: not compared, as each is relative to the model that the trial starts from, "
        f"the {axis.name} itself."
    ]


def left_out(axis: SettingAxis, on: OnBenchmark) -> list[str]:
    """That values are missing, where they are."""
    if not on.left_out:
        return []
    names = listed([named(axis.name, value) for value in on.left_out])
    return [f"Fewer than two cells of {names} have a score on {on.label}: left out here."]


def best_value(axis: SettingAxis, on: OnBenchmark) -> str:
    """The value with the best score, or those that may have it."""
    most = max(on.values, key=lambda one: one.p_best)
    if len(on.as_good) == 1:
        return f"the best is {named(axis.name, most.value)} (probability {_p(most)})"
    kept = listed([named(axis.name, on.as_good[0]), *on.as_good[1:]])
    if len(on.as_good) == len(on.values):
        return f"which is best is open, most likely {named(axis.name, most.value)} ({_p(most)})"
    return f"the best is one of {kept}, most likely {most.value} ({_p(most)})"


def moves(axis: SettingAxis, on: OnBenchmark) -> str:
    """Whether the best learning rate moves with the setting, and by how much."""
    slope = on.slope
    if slope is not None:
        span = f"({signed(slope.low, 2)} to {signed(slope.high, 2)})"
        if on.moves:
            way = "rises" if slope.octaves > 0 else "falls"
            by = f"{abs(slope.octaves):.2f} octaves for each doubling of {axis.name} {span}"
            return f"the best learning rate {way} by {by}"
        by = f"{signed(slope.octaves, 2)} octaves for each doubling of {axis.name} {span}"
        return f"the best learning rate does not move with it beyond noise: {by}"
    shifted = [one for one in on.values if one.shift is not None]
    if not shifted:
        return f"whether the best learning rate moves is open, as {_unplaced(axis, on)}"
    first = named(axis.name, on.values[0].value)
    if len(shifted) > FEW:
        return f"the best learning rate is, against {first}, {_groups(axis, shifted)}"
    parts = []
    for one in shifted:
        assert one.shift is not None
        middle, low, high = one.shift
        span = f"({signed(low)} to {signed(high)})"
        value = named(axis.name, one.value)
        if low <= 0 <= high:
            parts.append(f"with {value} no different beyond noise, {signed(middle)} octaves {span}")
        else:
            way = "higher" if middle > 0 else "lower"
            parts.append(f"with {value} {abs(middle):.1f} octaves {way} {span}")
    return f"the best learning rate is, against {first}, {listed(parts)}"


def _groups(axis: SettingAxis, shifted: list[AtValue]) -> str:
    """Those with a lower rate, those with a higher one, and how many do not differ."""
    groups: dict[str, list[AtValue]] = {"lower": [], "higher": []}
    for one in shifted:
        assert one.shift is not None
        _, low, high = one.shift
        if not low <= 0 <= high:
            groups["higher" if low > 0 else "lower"].append(one)
    parts = []
    for way, members in groups.items():
        if members:
            sizes = sorted(abs(one.shift[0]) for one in members if one.shift is not None)
            names = listed([named(axis.name, one.value) for one in members])
            span = f"{sizes[0]:.1f} to {sizes[-1]:.1f}" if len(sizes) > 1 else f"{sizes[0]:.1f}"
            parts.append(f"{span} octaves {way} with {names}")
    same = len(shifted) - sum(map(len, groups.values()))
    if same:
        parts.append(f"no different beyond noise with {'the other ' if parts else ''}{same}")
    return listed(parts)


def _unplaced(axis: SettingAxis, on: OnBenchmark) -> str:
    """Values whose best rate is at an edge or open at every batch size that all share."""
    if all(len({float(x) for x in one.fit.cells.table.x}) < 2 for one in on.values):
        return "one learning rate was measured"
    if not on.values[0].rates:
        return "no batch size was measured at all of them"
    left = [
        named(axis.name, one.value)
        for one in on.values
        if not any(at.status is RateStatus.INTERIOR for at in one.rates)
    ]
    if not left:
        return "no batch size has it inside the measured rates for all of them"
    return f"it is not placed inside the measured rates for {listed(left)}"


def _p(one: AtValue) -> str:
    return probability(one.p_best)
