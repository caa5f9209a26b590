"""A local quadratic over x = log2 learning rate, y = log2 batch size, and what it can claim.

    score(x, y) = b0 + b1 x + b2 y + b3 x^2 + b4 y^2 + b5 x y      (x, y scaled to the grid's box)

Far from the top a score falls to chance or off a cliff, which no quadratic follows, so the fit sees
only the upper part of the cells: the largest share in `CUTS` whose misfit the noise explains, else
0.4. Where that cut is drawn is a choice: the draws behind every interval repeat the fit at the
neighbouring cuts, with the cells' joint noise and with the scatter the quadratic leaves beyond that
noise (model error, and seed noise where unmeasured).
"""

import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from scipy.special import chdtrc

from analysis.cells import DRAWS, Cells
from analysis.rivals import Rivals, compare

CUTS = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
NARROW = 1  # index in CUTS of the cut used where every wider one misfits
MIN_CELLS = 9
LOCAL_CELLS = 12
ALPHA = 0.05
WIDEST = 0.5
REACH = 0.5
BORDERS = ("lower learning rates", "higher learning rates", "smaller batches", "larger batches")
CLIFF = "where cells diverge"


class FitStatus(StrEnum):
    """What the fit can say: an optimum, a direction, that it is too level, or too small to tell."""

    IDENTIFIED = "identified"
    EDGE = "edge"
    FLAT = "flat"
    TOO_FEW = "too_few"


class Box(NamedTuple):
    """The rectangle of measured cells in log2 units, the only place an optimum may lie."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    @property
    def ratio_span(self) -> float:
        return (self.x_high - self.x_low) + (self.y_high - self.y_low)


class Optimum(NamedTuple):
    """Best point of a fit; all in log2; `log2_ratio` is x - y."""

    log2_learning_rate: float
    log2_batch_size: float
    log2_ratio: float


@dataclass(frozen=True)
class Quadratic:
    """Weighted least squares on the `used` cells; predictions in the score's own units."""

    box: Box
    sign: int
    used: np.ndarray
    weights: np.ndarray
    coefficients: np.ndarray
    operator: np.ndarray
    r2: float
    residual: float
    model_error: float
    freedom: int

    def predict(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Score at log2 learning rate x and log2 batch size y (arrays of one shape)."""
        return self.sign * (_design(self.box, x, y) @ self.coefficients)


@dataclass(frozen=True)
class Fit:
    """One surface's fit. `draws` are log2 (learning rate, batch size) of the optimum, draws x 2.

    low and high bound log2 ratio at 95 %. `best_learning_rate` is per batch size, over the cells
    that train. `flat_p` is the chance of cells this unlike each other on a constant surface.
    """

    cells: Cells
    status: FitStatus
    reason: str
    edges: tuple[str, ...] = ()
    flat_p: float | None = None
    flat_test: str = ""
    quadratic: Quadratic | None = None
    optimum: Optimum | None = None
    low: float | None = None
    high: float | None = None
    draws: np.ndarray | None = None
    best_learning_rate: dict[int, float] | None = None
    rivals: Rivals | None = None

    @property
    def ratio_draws(self) -> np.ndarray | None:
        """Draws of log2 ratio at the optimum."""
        return None if self.draws is None else self.draws[:, 0] - self.draws[:, 1]


def fit(cells: Cells) -> Fit:
    """The local quadratic of one surface and its status; never raises on thin data."""
    ok = cells.table.loc[cells.ok]
    rates, sizes = ok.learning_rate.nunique(), ok.batch_size.nunique()
    if rates < 3 or sizes < 3 or len(ok) < MIN_CELLS:
        return Fit(
            cells,
            FitStatus.TOO_FEW,
            f"{len(ok)} scored cells over {rates} learning rates and {sizes} batch sizes; the fit "
            f"needs {MIN_CELLS} over at least 3 of each",
        )
    flat_p, flat_test = flatness(cells)
    cut = choose_cut(cells)
    quadratic = fit_quadratic(cells, CUTS[cut])
    top = _tops(quadratic.coefficients[None, :], quadratic.box)[0]
    rng = np.random.default_rng(zlib.crc32(f"{cells.stage}/{cells.arm}/{cells.benchmark}".encode()))
    draws = _draws(cells, cut, rng)
    ratios = draws[:, 0] - draws[:, 1]
    low, high = np.quantile(ratios, [0.025, 0.975])
    rivals = compare(
        ok.x.to_numpy()[quadratic.used],
        ok.y.to_numpy()[quadratic.used],
        cells.sign * ok.value.to_numpy()[quadratic.used],
        quadratic.weights,
    )
    ridge = rivals.ratio_decides and rivals.ratio_low < low and high < rivals.ratio_high
    if flat_p > ALPHA:
        status, edges = FitStatus.FLAT, ()
        reason = f"cells do not differ beyond noise ({flat_test}: p = {flat_p:.2g})"
    else:
        status, reason, edges = _status(cells, quadratic.box, top, draws, ridge)
    return Fit(
        cells=cells,
        status=status,
        reason=reason,
        edges=edges,
        flat_p=flat_p,
        flat_test=flat_test,
        quadratic=quadratic,
        optimum=Optimum(float(top[0]), float(top[1]), float(top[0] - top[1])),
        low=float(min(low, top[0] - top[1])),
        high=float(max(high, top[0] - top[1])),
        draws=draws,
        best_learning_rate=_best_learning_rate(cells, quadratic),
        rivals=rivals,
    )


def fit_quadratic(cells: Cells, kept: float) -> Quadratic:
    """The quadratic over the best `kept` share of the ok cells (see `local`)."""
    ok = cells.table.loc[cells.ok]
    x, y = ok.x.to_numpy(), ok.y.to_numpy()
    score = cells.sign * ok.value.to_numpy()
    box = Box(x.min(), x.max(), y.min(), y.max())
    used = local(cells, kept)
    noise = _own_noise(cells)[:, used]
    design, target = _design(box, x[used], y[used]), score[used]
    variance = _variances(noise)
    model_variance = 0.0
    for _ in range(2):
        weights = _weights(variance, model_variance)
        operator = np.linalg.pinv(design * np.sqrt(weights)[:, None]) * np.sqrt(weights)
        coefficients = operator @ target
        residuals = target - design @ coefficients
        freedom = len(target) - design.shape[1]
        scatter = float(weights @ residuals**2 / weights.sum()) * len(target) / max(freedom, 1)
        model_variance = max(0.0, scatter - float(weights @ variance / weights.sum()))
    centred = target - weights @ target / weights.sum()
    return Quadratic(
        box=box,
        sign=cells.sign,
        used=used,
        weights=weights,
        coefficients=coefficients,
        operator=operator,
        r2=float(1 - (weights @ residuals**2) / max(weights @ centred**2, 1e-300)),
        residual=float(np.sqrt(scatter)),
        model_error=float(np.sqrt(model_variance)),
        freedom=freedom,
    )


def choose_cut(cells: Cells) -> int:
    """Index in `CUTS` of the largest share whose misfit is no larger than noise (chi-square)."""
    own = _own_noise(cells)
    if own.std() == 0:
        return NARROW
    for cut in range(len(CUTS) - 1, NARROW, -1):
        quadratic = fit_quadratic(cells, CUTS[cut])
        variance = _variances(own[:, quadratic.used]).mean()
        freedom = quadratic.freedom
        if chdtrc(freedom, quadratic.residual**2 * freedom / variance) > ALPHA:
            return cut
    return NARROW


def local(cells: Cells, kept: float) -> np.ndarray:
    """Mask over ok cells: the best `kept` share (at least `LOCAL_CELLS`), and all within 2 standard
    errors of the best; widened until 3 learning rates and 3 batch sizes are in."""
    ok = cells.table.loc[cells.ok].reset_index(drop=True)
    score = cells.sign * ok.value.to_numpy()
    order = np.argsort(-score, kind="stable")
    best = order[0]
    own = _own_noise(cells)
    stderr = (own - own[:, [best]]).std(axis=0)
    used = score >= score[best] - 2 * stderr
    count = max(LOCAL_CELLS, int(np.ceil(kept * len(score))))
    used[order[:count]] = True
    for row in order[count:]:
        chosen = ok.loc[used]
        if chosen.learning_rate.nunique() >= 3 and chosen.batch_size.nunique() >= 3:
            break
        used[row] = True
    return used


def flatness(cells: Cells) -> tuple[float, str]:
    """p of an omnibus test of all ok cells against a constant, and what was tested.

    Q = sum of (score - mean)^2 / variance, its null distribution drawn from the joint noise. Item
    noise alone understates what differs between trainings, so without repeated seeds the cells must
    also be ordered over the grid, against permutations. p is the larger.
    """
    ok = cells.table.loc[cells.ok]
    score = ok.value.to_numpy()
    own = _own_noise(cells)
    tests = []
    if own.std() > 0:
        weights = _weights(_variances(own), 0.0)
        observed = _spread(score[None, :], weights)[0]
        exceed = int((_spread(own, weights) >= observed).sum())
        tests.append(((1 + exceed) / (DRAWS + 1), "all cells against a constant, joint noise"))
    if cells.seed_sd is None:
        tests.append((_order_p(ok.x.to_numpy(), ok.y.to_numpy(), score), "order over the grid"))
    return max(tests)


def _spread(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mean = scores @ weights / weights.sum()
    return (scores - mean[:, None]) ** 2 @ weights


def _order_p(x: np.ndarray, y: np.ndarray, score: np.ndarray) -> float:
    """Permutation p that scores are ordered over the grid, on their ranks, axes in grid steps.

    Two statistics, because each is blind where the other sees: Geary's C over each cell's 4 nearest
    neighbours, and what a quadratic explains. Twice the smaller p (Bonferroni).
    """
    steps = np.column_stack([np.unique(axis, return_inverse=True)[1] for axis in (x, y)])
    rng = np.random.default_rng(len(score))
    ranks = np.argsort(np.argsort(score)).astype(float)
    shuffled = np.vstack([ranks, rng.permuted(np.tile(ranks, (DRAWS, 1)), axis=1)])
    near = KDTree(steps).query(steps, k=min(5, len(score)))[1][:, 1:]
    smooth = -((shuffled[:, :, None] - shuffled[:, near]) ** 2).sum(axis=(1, 2))
    box = Box(steps[:, 0].min(), steps[:, 0].max(), steps[:, 1].min(), steps[:, 1].max())
    basis = np.linalg.qr(_design(box, steps[:, 0], steps[:, 1]))[0]
    explained = ((shuffled @ basis) ** 2).sum(axis=1)
    tails = [
        float((one[1:] >= one[0] - 1e-9).sum() + 1) / (DRAWS + 1) for one in (smooth, explained)
    ]
    return min(1.0, 2 * min(tails))


def _own_noise(cells: Cells) -> np.ndarray:
    """Joint noise of the ok cells without what moves all alike, which shifts no optimum."""
    noise = cells.noise[:, cells.ok]
    return noise - noise.mean(axis=1, keepdims=True) if noise.size else noise


def _variances(noise: np.ndarray) -> np.ndarray:
    variance = noise.var(axis=0)
    return np.maximum(variance, 0.1 * np.median(variance))


def _weights(variance: np.ndarray, model_variance: float) -> np.ndarray:
    total = variance + model_variance
    return 1 / total if total.min() > 0 else np.ones(len(variance))


def _design(box: Box, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u = (2 * x - box.x_low - box.x_high) / (box.x_high - box.x_low)
    v = (2 * y - box.y_low - box.y_high) / (box.y_high - box.y_low)
    return np.stack([np.ones_like(u), u, v, u * u, v * v, u * v], axis=-1)


def _tops(coefficients: np.ndarray, box: Box) -> np.ndarray:
    """Highest point in the box of each quadratic (n x 6): n x 2 in log2 units, exact."""
    _, b1, b2, b3, b4, b5 = coefficients.T
    one = np.ones_like(b1)
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = 4 * b3 * b4 - b5**2
        inside = ((b5 * b2 - 2 * b4 * b1) / determinant, (b5 * b1 - 2 * b3 * b2) / determinant)
        sides = [(-(b1 + side * b5) / (2 * b3), side * one) for side in (-1.0, 1.0)]
        sides += [(side * one, -(b2 + side * b5) / (2 * b4)) for side in (-1.0, 1.0)]
    corners = [(s * one, t * one) for s in (-1.0, 1.0) for t in (-1.0, 1.0)]
    points = np.stack([np.stack(point, axis=-1) for point in [inside, *sides, *corners]])
    valid = np.isfinite(points).all(axis=-1) & (np.abs(points) <= 1).all(axis=-1)
    u, v = np.where(valid, points[..., 0], 0), np.where(valid, points[..., 1], 0)
    basis = np.stack([np.ones_like(u), u, v, u * u, v * v, u * v], axis=-1)
    height = np.where(valid, (basis * coefficients[None]).sum(axis=-1), -np.inf)
    best = height.argmax(axis=0)
    chosen = points[best, np.arange(len(one))]
    middle = np.array([box.x_low + box.x_high, box.y_low + box.y_high]) / 2
    half = np.array([box.x_high - box.x_low, box.y_high - box.y_low]) / 2
    return middle + half * chosen


def _draws(cells: Cells, cut: int, rng: np.random.Generator) -> np.ndarray:
    own = _own_noise(cells)
    parts = []
    cuts = CUTS[max(0, cut - 1) : cut + 3]
    for part, share in enumerate(cuts):
        quadratic = fit_quadratic(cells, share)
        noise = own[part :: len(cuts), quadratic.used]
        # few residuals know their own variance badly: Student's t, not a normal
        freedom = max(quadratic.freedom, 3)
        tails = np.sqrt(freedom / rng.chisquare(freedom, size=(len(noise), 1)))
        error = tails * rng.standard_normal(noise.shape) @ _model_error(cells, quadratic)
        moved = quadratic.coefficients + (noise + error) @ quadratic.operator.T
        parts.append(_tops(moved, quadratic.box))
    return np.concatenate(parts)


def _model_error(cells: Cells, quadratic: Quadratic) -> np.ndarray:
    """Square root R of the model error's covariance over the used cells (draws are z @ R).

    A misfit is smooth: neighbouring cells err alike, and such errors move an optimum more than
    independent ones of the same size. Matern 3/2, `REACH` in half-widths of the box.
    """
    table = cells.table.loc[cells.ok].loc[quadratic.used]
    points = _design(quadratic.box, table.x.to_numpy(), table.y.to_numpy())[:, 1:3]
    scaled = np.sqrt(3) / REACH * cdist(points, points)
    values, vectors = np.linalg.eigh((1 + scaled) * np.exp(-scaled))
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    return quadratic.model_error * root


def _status(
    cells: Cells, box: Box, top: np.ndarray, draws: np.ndarray, ridge: bool
) -> tuple[FitStatus, str, tuple[str, ...]]:
    """Status, reason and borders; on a ridge along equal ratios no border matters to the ratio."""
    shares = _border_shares(cells, box, draws)
    here = _border_shares(cells, box, top[None, :])
    edges = tuple(side for side, share in shares.items() if share > 0.5)
    width = float(np.subtract(*np.quantile(draws[:, 0] - draws[:, 1], [0.975, 0.025])))
    loose = width > WIDEST * box.ratio_span
    if not edges and loose and sum(shares.values()) > 0.5:
        edges = tuple(side for side, share in shares.items() if share > 0.2 and here[side])
    if ridge and not loose:
        reason = "a ridge of equal ratios: the ratio alone describes the cells near the top"
        return FitStatus.IDENTIFIED, reason, ()
    if edges:
        return FitStatus.EDGE, f"the best scores lie on the border towards {_all(edges)}", edges
    if loose:
        reason = (
            f"the top is too level: 95 % of the optima spread over {width:.1f} octaves of ratio"
        )
        return FitStatus.FLAT, reason, ()
    return FitStatus.IDENTIFIED, "the optimum lies inside the grid", ()


def _border_shares(cells: Cells, box: Box, tops: np.ndarray) -> dict[str, float]:
    """Share of optima on each border of the box, and of those nearest to a diverged cell."""
    x, y = tops[:, 0], tops[:, 1]
    on = (x <= box.x_low, x >= box.x_high, y <= box.y_low, y >= box.y_high)
    shares = {side: float(where.mean()) for side, where in zip(BORDERS, on, strict=True)}
    points = cells.table[["x", "y"]].to_numpy()
    nearest = KDTree(points).query(tops)[1]
    shares[CLIFF] = float((cells.table.status.to_numpy()[nearest] == "diverged").mean())
    return shares


def _all(names: tuple[str, ...]) -> str:
    return " and ".join(names)


def _best_learning_rate(cells: Cells, quadratic: Quadratic) -> dict[int, float]:
    """Per batch size, the learning rate where the fit is highest among those that train there."""
    best = {}
    for size, rows in cells.table.loc[cells.ok].groupby("batch_size"):
        x = np.linspace(rows.x.min(), rows.x.max(), 401)
        score = quadratic.sign * quadratic.predict(x, np.full_like(x, rows.y.iloc[0]))
        best[int(size)] = float(2 ** x[score.argmax()])  # type: ignore[call-overload]
    return best
