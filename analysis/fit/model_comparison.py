"""Is the ratio the right coordinate? Five nested descriptions of the cells near the top.

With x = log2 learning rate and y = log2 batch size, quadratics with the same weights on the same
cells: a constant; f(LR) in x; f(LR/BS) in x - y; f(LR/BS^gamma) in x - gamma y, gamma fitted; and
the full quadratic in (x, y). Each of the first four is the full one under constraints, so
likelihood ratios 2 (log L_full - log L) are chi-square with the difference of parameters (Wilks
1938), and for the ratio F = ((RSS_ratio - RSS_full) / 3) / (RSS_full / (n - 6)) is exact.
Gaussian errors of unknown size: log L = -(n / 2) (log(2 pi RSS / n) + 1).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, chdtri, fdtrc

MIN_FREEDOM = 3
RATIO_HOLDS = 0.2
RATE_REFUSED = 4.0  # AICc difference: the rate alone is 7 times less likely
GAMMA_STEP = 0.05
GAMMAS = np.linspace(-1.0, 2.0, 61)
"""Candidates for gamma: 0 the rate alone, 1/2 the square-root rule, 1 the ratio."""

CLOSE = 2.0
"""Two descriptions this near in AICc are equally supported (Burnham and Anderson 2004)."""

LABELS = {
    "constant": "a constant",
    "learning_rate": "the learning rate alone",
    "ratio": "the ratio LR/BS",
    "gamma": "LR/BS^gamma",
    "full": "both axes",
}

PARAMETERS = {"constant": 2, "learning_rate": 4, "ratio": 4, "gamma": 5, "full": 7}
"""Free numbers of each description, the errors' size among them."""


class Curve(NamedTuple):
    """A quadratic in one coordinate: score = c0 + c1 t + c2 t^2, better when higher."""

    coefficients: np.ndarray
    r2: float
    aicc: float

    def predict(self, t: np.ndarray) -> np.ndarray:
        return np.polynomial.polynomial.polyval(t, self.coefficients)


class Rival(NamedTuple):
    """One description. `parameters` counts the error's size too.

    likelihood_ratio and p: against the full surface, None for that itself. `out_of_sample`: root
    mean square error, in the score's units, of each batch size predicted from the others, None with
    fewer than 4 batch sizes. `share`: of the explainable variance, which is what noise leaves;
    between 0 and 1.
    """

    name: str
    label: str
    log_likelihood: float
    parameters: int
    aicc: float
    likelihood_ratio: float | None
    p: float | None
    out_of_sample: float | None
    share: float


@dataclass(frozen=True)
class Rivals:
    """All five on the same cells; `members` by name, from the constant to the full surface.

    f, p: the exact test of ratio against both axes; p is the chance of a full fit this much better
    if the ratio were all that counts. f and p are None with fewer than `MIN_FREEDOM`
    cells to spare. gamma with its 95 % profile interval, None where nothing bounds it (no shape).
    ratio_low and ratio_high bound the log2 ratios fitted.
    """

    members: dict[str, Rival]
    gamma: float
    gamma_low: float | None
    gamma_high: float | None
    ratio: Curve
    learning_rate: Curve
    f: float | None
    p: float | None
    freedom: int
    ratio_low: float
    ratio_high: float

    @property
    def ratio_decides(self) -> bool:
        """The ratio alone has a top and is not refused, while the learning rate alone is."""
        return (
            self.p is not None
            and self.p > RATIO_HOLDS
            and self.ratio.coefficients[2] < 0
            and self.ratio.aicc + RATE_REFUSED < self.learning_rate.aicc
        )


def compare(
    x: np.ndarray,
    y: np.ndarray,
    score: np.ndarray,
    weights: np.ndarray,
    noise_variance: float | None = None,
) -> Rivals:
    """Fit all five; x and y in log2, score better when higher, weights 1 / variance.

    `noise_variance` is the mean variance of a cell's noise where it is known; else the residual
    mean square of the best description stands for it.
    """
    root = np.sqrt(weights / weights.mean())
    count = len(score)
    ends = float((x - y).min()), float((x - y).max())
    total = _rss(_power(x, 0), score, root)
    curves = {
        name: _curve(t, score, root, total) for name, t in (("learning_rate", x), ("ratio", x - y))
    }
    along = _profile(x, y, score, root)
    squares = {
        "constant": total,
        "learning_rate": curves["learning_rate"][1],
        "ratio": curves["ratio"][1],
        "gamma": float(along.min()),
        "full": _rss(_full(x, y), score, root),
    }
    freedoms = {name: count - PARAMETERS[name] + 1 for name in squares}
    means = [squares[name] / freedoms[name] for name in squares if freedoms[name] >= MIN_FREEDOM]
    floor = min([noise_variance * count] if noise_variance else [m * count for m in means] or [0.0])
    outside = _leave_sizes_out(x, y, score, root)
    highest = _log_likelihood(squares["full"], count)
    members = {}
    for name, rss in squares.items():
        likelihood = _log_likelihood(rss, count)
        ratio = None if name == "full" else max(0.0, 2 * (highest - likelihood))
        lacking = PARAMETERS["full"] - PARAMETERS[name]
        members[name] = Rival(
            name=name,
            label=LABELS[name],
            log_likelihood=likelihood,
            parameters=PARAMETERS[name],
            aicc=_aicc(likelihood, count, PARAMETERS[name]),
            likelihood_ratio=ratio,
            p=None if ratio is None else float(chdtrc(lacking, ratio)),
            out_of_sample=outside.get(name),
            share=_share(rss, freedoms[name], total, floor, count),
        )
    freedom = count - 6
    f = p = None
    if freedom >= MIN_FREEDOM and squares["full"] > 0:
        f = max(0.0, (squares["ratio"] - squares["full"]) / 3 / (squares["full"] / freedom))
        p = float(fdtrc(3, freedom, f))
    low, high = _gamma_bounds(along, total, count)
    return Rivals(
        members=members,
        gamma=float(GAMMAS[along.argmin()]),
        gamma_low=low,
        gamma_high=high,
        ratio=curves["ratio"][0],
        learning_rate=curves["learning_rate"][0],
        f=f,
        p=p,
        freedom=freedom,
        ratio_low=ends[0],
        ratio_high=ends[1],
    )


def _curve(t: np.ndarray, score: np.ndarray, root: np.ndarray, total: float) -> tuple[Curve, float]:
    coefficients = np.polynomial.polynomial.polyfit(t, score, 2, w=root)
    residual = score - np.polynomial.polynomial.polyval(t, coefficients)
    rss = float(((root * residual) ** 2).sum())
    r2 = 1 - rss / total if total > 0 else 0.0
    likelihood = _log_likelihood(rss, len(score))
    return Curve(coefficients, r2, _aicc(likelihood, len(score), PARAMETERS["ratio"])), rss


def _power(t: np.ndarray, degree: int) -> np.ndarray:
    return np.stack([t**power for power in range(degree + 1)], axis=-1)


def _full(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def _rss(design: np.ndarray, score: np.ndarray, root: np.ndarray) -> float:
    """Weighted residual sum of squares."""
    basis = np.linalg.qr(design * root[:, None])[0]
    target = score * root
    return float(((target - basis @ (basis.T @ target)) ** 2).sum())


def _profile(x: np.ndarray, y: np.ndarray, score: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Residual sum of squares of a quadratic in x - gamma y at each of `GAMMAS`."""
    t = (x - x.mean()) - GAMMAS[:, None] * (y - y.mean())
    basis = np.linalg.qr(_power(t, 2) * root[None, :, None])[0]
    target = score * root
    fitted = np.einsum("gnk,gk->gn", basis, np.einsum("gnk,n->gk", basis, target))
    return ((target - fitted) ** 2).sum(axis=1)


def _gamma_bounds(along: np.ndarray, total: float, count: int) -> tuple[float | None, float | None]:
    """95 % profile-likelihood interval of gamma; None where it reaches the end of `GAMMAS` or the
    description does not beat a constant."""
    rise = count * np.log(np.maximum(along, 1e-300) / max(along.min(), 1e-300))
    shape = count * np.log(max(total, 1e-300) / max(along.min(), 1e-300))
    inside = GAMMAS[rise <= chdtri(1, 0.05)]
    if chdtrc(3, max(shape, 0.0)) > 0.05 or inside[0] == GAMMAS[0] or inside[-1] == GAMMAS[-1]:
        return None, None
    return float(inside[0]), float(inside[-1])


def _leave_sizes_out(
    x: np.ndarray, y: np.ndarray, score: np.ndarray, root: np.ndarray
) -> dict[str, float]:
    """Error of each batch size predicted from the others; gamma is fitted anew each time."""
    sizes = np.unique(y)
    if len(sizes) < 4:
        return {}
    missed: dict[str, list[np.ndarray]] = {name: [] for name in LABELS}
    for size in sizes:
        out = y == size
        kept = ~out
        if kept.sum() < PARAMETERS["full"] + MIN_FREEDOM:
            return {}
        gamma = GAMMAS[_profile(x[kept], y[kept], score[kept], root[kept]).argmin()]
        middle = x[kept].mean(), y[kept].mean()
        u, v = x - middle[0], y - middle[1]
        designs = {
            "constant": _power(u, 0),
            "learning_rate": _power(u, 2),
            "ratio": _power(u - v, 2),
            "gamma": _power(u - gamma * v, 2),
            "full": _full(u, v),
        }
        for name, design in designs.items():
            weighted = design[kept] * root[kept, None]
            solution = np.linalg.lstsq(weighted, score[kept] * root[kept], rcond=None)[0]
            missed[name].append(score[out] - design[out] @ solution)
    return {
        name: float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
        for name, errors in missed.items()
    }


def _share(rss: float, freedom: int, total: float, floor: float, count: int) -> float:
    """1 - (excess variance of the description) / (excess variance of a constant), over noise."""
    if freedom <= 0 or total <= floor:
        return 0.0
    left = max(rss * count / freedom - floor, 0.0)
    return float(np.clip(1 - left / max(total * count / (count - 1) - floor, 1e-300), 0, 1))


def _log_likelihood(rss: float, count: int) -> float:
    """Highest log density of Gaussian errors of unknown size."""
    return -0.5 * count * (float(np.log(2 * np.pi * max(rss, 1e-300) / count)) + 1)


def _aicc(log_likelihood: float, count: int, parameters: int) -> float:
    """Akaike's criterion corrected for few cells (Hurvich and Tsai 1989)."""
    spare = count - parameters - 1
    if spare <= 0:
        return float("inf")
    return -2 * log_likelihood + 2 * parameters + 2 * parameters * (parameters + 1) / spare
