"""Is the ratio the right coordinate? The full quadratic against the ratio alone and the rate alone.

With x = log2 learning rate, y = log2 batch size and r = x - y the three are quadratics in (x, y),
in r and in x, fitted to the same cells with the same weights. The ratio's and the rate's are both
the full one with three constraints, hence F = ((RSS_ratio - RSS_full) / 3) / (RSS_full / (n - 6)).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import fdtrc

MIN_FREEDOM = 3
RATIO_HOLDS = 0.2
RATE_REFUSED = 4.0  # AICc difference: the rate alone is 7 times less likely


class Curve(NamedTuple):
    """A quadratic in one coordinate: score = c0 + c1 t + c2 t^2, better when higher."""

    coefficients: np.ndarray
    r2: float
    aicc: float

    def predict(self, t: np.ndarray) -> np.ndarray:
        return np.polynomial.polynomial.polyval(t, self.coefficients)


@dataclass(frozen=True)
class Rivals:
    """Fits over the ratio alone, the learning rate alone and both; F and p of ratio sufficiency.

    p is the chance of a full fit this much better if the ratio were all that counts. f, p and
    full_aicc are None with fewer than `MIN_FREEDOM` cells to spare. ratio_low and ratio_high bound
    the log2 ratios fitted.
    """

    ratio: Curve
    learning_rate: Curve
    full_r2: float
    full_aicc: float | None
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


def compare(x: np.ndarray, y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> Rivals:
    """Fit all three; x and y in log2, score better when higher, weights 1 / variance."""
    root = np.sqrt(weights)
    total = float(weights @ (score - weights @ score / weights.sum()) ** 2)
    u, v = x - x.mean(), y - y.mean()
    full = _rss(np.stack([np.ones_like(u), u, v, u * u, v * v, u * v], axis=1), score, root)
    count = len(score)
    freedom = count - 6
    ratio, ratio_rss = _curve(x - y, score, root, total)
    rate, _ = _curve(x, score, root, total)
    f = p = full_aicc = None
    if freedom >= MIN_FREEDOM and full > 0:
        f = max(0.0, (ratio_rss - full) / 3 / (full / freedom))
        p = float(fdtrc(3, freedom, f))
        full_aicc = _aicc(full, count, 7)
    r2 = 1 - full / total if total > 0 else 0.0
    low, high = float((x - y).min()), float((x - y).max())
    return Rivals(ratio, rate, r2, full_aicc, f, p, freedom, low, high)


def _curve(t: np.ndarray, score: np.ndarray, root: np.ndarray, total: float) -> tuple[Curve, float]:
    coefficients = np.polynomial.polynomial.polyfit(t, score, 2, w=root)
    residual = score - np.polynomial.polynomial.polyval(t, coefficients)
    rss = float(((root * residual) ** 2).sum())
    r2 = 1 - rss / total if total > 0 else 0.0
    return Curve(coefficients, r2, _aicc(rss, len(score), 4)), rss


def _rss(design: np.ndarray, score: np.ndarray, root: np.ndarray) -> float:
    solution = np.linalg.lstsq(design * root[:, None], score * root, rcond=None)[0]
    return float(((root * (score - design @ solution)) ** 2).sum())


def _aicc(rss: float, count: int, parameters: int) -> float:
    """Akaike's criterion corrected for few cells, Gaussian errors of unknown size."""
    spare = count - parameters - 1
    if spare <= 0:
        return float("inf")
    penalty = 2 * parameters + 2 * parameters * (parameters + 1) / spare
    return count * float(np.log(max(rss, 1e-300) / count)) + penalty
