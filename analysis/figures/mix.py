"""What each ratio costs each benchmark of a mix, and which ratios no other one beats."""

from collections.abc import Iterator

import numpy as np

from analysis.advice.task_mix import Compromise
from analysis.benchmarks import task
from analysis.figures.chart import GREY, OKABE_ITO, VERMILION, Axis, Chart, Dash, Line
from analysis.figures.contour import ratio_lines
from analysis.text import rate

DASHES: tuple[Dash, ...] = ("solid", "dash", "dashdot", "dot")


def mix_costs(mix: Compromise) -> Chart:
    """Expected loss of score against the ratio, a line per benchmark and one for the mix; the
    Pareto front is a bar under them.

    Raises:
        ValueError: the compromise has no front.
    """
    if mix.front is None or mix.log2_ratio is None or not mix.low or not mix.high:
        raise ValueError("nothing to draw: too few benchmarks of the mix are identified")
    front = mix.front
    ratio = front.log2_ratio.to_numpy()
    columns = [*(price.benchmark for price in mix.prices), "mixed"]
    top = 105 * float(front[columns].to_numpy().max())
    layers = [
        Line(
            np.log2([mix.low, mix.high]), np.full(2, -0.03 * top), colour=GREY, width=6,
            name="95 % interval of the mix's best ratio",
        )
    ]  # fmt: skip
    for order, price in enumerate(mix.prices):
        layers.append(
            Line(
                ratio,
                100 * front[price.benchmark].to_numpy(),
                name=f"{task(price.benchmark).label} ({price.weight:.0%})",
                colour=OKABE_ITO[order % len(OKABE_ITO)],
                dash=DASHES[order // len(OKABE_ITO) % len(DASHES)],
            )
        )
    layers.append(Line(ratio, 100 * front.mixed.to_numpy(), name="the mix", width=2.6))
    best = np.full(2, mix.log2_ratio)
    layers.append(Line(best, np.array([0, top]), name="least expected loss", width=1.1, dash="dot"))
    layers += _front(ratio[front.pareto.to_numpy(dtype=bool)], float(np.diff(ratio[:2])[0]), top)
    lines = ratio_lines(ratio, np.zeros(1))
    labels = [rate(2**line) for line in lines]
    x_axis = Axis("learning rate / batch size", ratio.min(), ratio.max(), lines, labels)
    y_axis = Axis("expected loss, % of the grid's range of scores", -0.1 * top, top)
    return Chart("What one ratio for the mix costs", x_axis, y_axis, list(layers))


def _front(ratios: np.ndarray, step: float, top: float) -> Iterator[Line]:
    """The ratios that no other one beats, as a bar in as many pieces as it has."""
    for order, ratio in enumerate(ratios):
        ends = np.array([ratio - step / 2, ratio + step / 2])
        name = "Pareto front: no other ratio is better for all" if order == 0 else ""
        yield Line(ends, np.full(2, -0.07 * top), name=name, colour=VERMILION, width=4)
