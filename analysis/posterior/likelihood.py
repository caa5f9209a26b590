"""The likelihood of the cells given the shape of a surface, all else integrated out exactly.

    score(cell) = m + A peak(x, y; theta) + r(x, y) + noise,   A > 0

m has a flat prior, A a half-normal one, and the covariance of r and the unmeasured noise is a
mixture over their size, reach and share.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr

from analysis.posterior.peak import Box, peak

RESIDUALS = ((0.05, 0.4), (0.15, 0.4), (0.5, 0.25))
"""Size of r as a share of the scores' spread, and its reach as a share of the box's sides; a priori
each in inverse proportion to its square, so that a large one is what the cells ask for."""

UNKNOWN_NOISE = (0.02, 0.05, 0.12, 0.3, 0.6, 0.9)
"""Standard deviation of the unmeasured noise, as a share of the scores' spread."""

LEAST_NOISE = 0.02
"""Of measured noise, in the same shares: no surface follows the scores more closely."""

SHARED = (0.0, 2.0)
"""Variance of what cells of one batch size and seed have in common (they see the same batches), as
a share of a cell's own unmeasured variance."""


class Data(NamedTuple):
    """Points in log2 units, scores better when higher, and the covariance of the noise that their
    items share.

    `seeds` are the variances of their noise between seeds, of which each of `sizes` may be the
    scale, as a standard deviation; None where no seeds were repeated.
    """

    x: np.ndarray
    y: np.ndarray
    score: np.ndarray
    covariance: np.ndarray
    box: Box
    seeds: np.ndarray | None = None
    sizes: np.ndarray = np.ones(1)


class Settings(NamedTuple):
    """Covariances of the cells that differ in the size of the noise between seeds alone:

        C_e = C + size^2 K(reach) + e^2 M,   M = S + shared B,   e in `noise`

    with C the items' noise, S the seeds' variances (1 where unmeasured) and B `same_size`. M is
    `own`. W M W' = 1 and W (C + size^2 K) W' = diag(values)
    hold for all of them, so C_e^-1 = W' diag(weights) W with weights = 1 / (values + e^2), e x
    cells. `one` and `score` are W times the constant and the scores; `constant`, per e, is what the
    log evidence has without a peak.
    """

    size: float
    reach: float
    own: np.ndarray
    noise: np.ndarray
    whitener: np.ndarray
    one: np.ndarray
    score: np.ndarray
    weights: np.ndarray
    constant: np.ndarray


def unit(box: Box, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points in shares of the box's sides, points x 2."""
    u = (x - box.x_low) / (box.x_high - box.x_low)
    v = (y - box.y_low) / (box.y_high - box.y_low)
    return np.stack([u, v], axis=-1)


def kernel(left: np.ndarray, right: np.ndarray, reach: float) -> np.ndarray:
    """exp(-|p - q|^2 / 2 reach^2) in shares of the box's sides."""
    squared = ((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=-1)
    return np.exp(-0.5 * squared / reach**2)


def same_size(data: Data) -> np.ndarray:
    """1 where two cells have one batch size, cells x cells."""
    return (data.y[:, None] == data.y[None, :]).astype(float)


def spread_of(data: Data) -> float:
    """Standard deviation of the scores, the scale of every prior."""
    return float(max(data.score.std(), 1e-12))


def mixture(data: Data) -> list[Settings]:
    """Every combination of `RESIDUALS` and the sizes of the noise between seeds: `Data.sizes`, or
    `UNKNOWN_NOISE` with `SHARED` where it is unmeasured."""
    spread = spread_of(data)
    if data.seeds is None:
        noise = spread * np.array(UNKNOWN_NOISE)
        kinds = [np.eye(len(data.score)) + share * same_size(data) for share in SHARED]
    else:
        noise, kinds = data.sizes, [np.diag(data.seeds)]
    points = unit(data.box, data.x, data.y)
    ones = np.ones(len(data.score))
    priors = np.array([size for size, _ in RESIDUALS]) ** -2.0
    priors /= priors.sum() * len(kinds) * len(noise)
    settings = []
    for own in kinds:
        lower = np.linalg.cholesky(own)
        inverse = np.linalg.inv(lower)
        for (size, reach), prior in zip(RESIDUALS, priors, strict=True):
            covariance = data.covariance + (spread * size) ** 2 * kernel(points, points, reach)
            values, vectors = np.linalg.eigh(inverse @ covariance @ inverse.T)
            whitener = vectors.T @ inverse
            one, score = whitener @ ones, whitener @ data.score
            weights = 1 / (np.maximum(values, 0) + noise[:, None] ** 2)
            length = weights @ one**2
            constant = (
                -np.log(np.diagonal(lower)).sum()
                + 0.5 * np.log(weights).sum(axis=1)
                - 0.5 * np.log(length)
                - 0.5 * (weights @ score**2 - (weights @ (one * score)) ** 2 / length)
                + np.log(prior)
            )
            kind = (spread * size, reach, own, noise)
            settings.append(Settings(*kind, whitener, one, score, weights, constant))
    return settings


def likelihoods(
    data: Data, mixed: list[Settings], shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log evidence settings x rows of each peak (rows x cells), A's mean and standard deviation.

    With P = C_e^-1, the mean projected out, a = f'Pf, b = f's and A ~ half-normal(t): log p =
    constant - log(1 + t^2 a) / 2 + b^2 / 2 (a + t^-2) + log 2 Phi(b / sqrt(a + t^-2)).
    """
    centred = (shape - shape.mean(axis=1, keepdims=True)).T  # far tops differ by rounding alone
    squares, products = [], []
    for its in mixed:
        white = its.whitener @ centred
        length = its.weights @ its.one**2
        mean = (its.weights * its.one) @ white / length[:, None]
        squares.append(its.weights @ white**2 - length[:, None] * mean**2)
        total = its.weights @ (its.one * its.score)
        products.append((its.weights * its.score) @ white - total[:, None] * mean)
    a = np.maximum(np.concatenate(squares), 0)  # rounding of a level peak
    b = np.concatenate(products)
    constant = np.concatenate([its.constant for its in mixed])
    scale = (1.5 * spread_of(data)) ** 2
    precision = a + 1 / scale
    evidence = (
        constant[:, None]
        - 0.5 * np.log1p(scale * a)
        + 0.5 * b * b / precision
        + np.log(2)
        + log_ndtr(b / np.sqrt(precision))
    )
    return evidence, b / precision, 1 / np.sqrt(precision)


def log_sum(terms: np.ndarray, axis: int) -> np.ndarray:
    """log(sum(exp(terms))) along an axis; for finite real terms, without scipy's checks."""
    most = terms.max(axis=axis, keepdims=True)
    return np.log(np.exp(terms - most).sum(axis=axis)) + most.squeeze(axis)


def standardised(parameters: np.ndarray, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Peaks at the cells with unit standard deviation, rows x cells, and the divisors."""
    shape = peak(parameters, data.x, data.y)
    divisor = np.maximum(shape.std(axis=1), 1e-9)
    return shape / divisor[:, None], divisor


def kept(mixed: list[Settings], wanted: np.ndarray) -> list[Settings]:
    """The settings marked in `wanted`, in the order of `likelihoods`."""
    parts = np.split(wanted, np.cumsum([len(its.noise) for its in mixed])[:-1])
    return [
        its._replace(noise=its.noise[k], weights=its.weights[k], constant=its.constant[k])
        for its, k in zip(mixed, parts, strict=True)
        if k.any()
    ]
