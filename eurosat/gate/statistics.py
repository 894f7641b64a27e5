"""Paired comparisons on the same images: what differs, and how surely."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from eurosat.callbacks.figures import confidence_bins

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

RESAMPLES = 10_000
"""Of a bootstrap: an end of its 95 % interval then moves by 1 % of the width from seed to seed."""

_SEED = 0
_CHUNK = 250  # resamples drawn at once: some megabytes of indices


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], Floats], count: int, confidence: float = 0.95
) -> Interval:
    """Percentile interval of a statistic over resampled images (Efron, 1979).

    Paired where the statistic takes both models' answers to the same images: what makes an image
    hard for both does not widen the interval.

    Args:
        statistic: Takes indices of images, int64, shape (R, count), and gives one value a row.
        count: Number of images.
        confidence: Probability that the interval is to hold.

    Returns:
        Its lower and upper end; the same for the same statistic, each time.
    """
    values = np.concatenate([statistic(indices) for indices in _resamples(count)])
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _resamples(count: int) -> Iterator[npt.NDArray[np.int64]]:
    generator = np.random.default_rng(_SEED)
    for _ in range(RESAMPLES // _CHUNK):
        yield generator.integers(count, size=(_CHUNK, count))


def mean_interval(values: Floats, confidence: float = 0.95) -> Interval:
    """`bootstrap` of the mean of one value an image, such as a difference of two models."""
    return bootstrap(lambda indices: values[indices].mean(axis=1), len(values), confidence)


def calibration_interval(
    candidate: npt.NDArray[np.float32],
    baseline: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
) -> Interval:
    """`bootstrap` of the difference of two models' calibration errors on the same images.

    Args:
        candidate: Probabilities, float32, shape (N, classes).
        baseline: Those of the other model.
        labels: int64, shape (N,).
    """
    errors = [_CalibrationError(probabilities, labels) for probabilities in (candidate, baseline)]
    return bootstrap(lambda indices: errors[0](indices) - errors[1](indices), len(labels))


def calibration_error(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> float:
    """Expected calibration error in 15 bins, as in ``metrics.json`` (Guo et al., ICML 2017)."""
    every = np.arange(len(labels))[None]
    return float(_CalibrationError(probabilities, labels)(every)[0])


class _CalibrationError:
    """The expected calibration error of any rows of indices of images."""

    def __init__(
        self, probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
    ) -> None:
        confidence = probabilities.max(axis=1)
        self._gaps = (probabilities.argmax(axis=1) == labels) - confidence.astype(np.float64)
        self._bins = confidence_bins(confidence)
        self._count = int(self._bins.max()) + 1

    def __call__(self, indices: npt.NDArray[np.int64]) -> Floats:
        rows = np.arange(len(indices))[:, None] * self._count
        sums = np.bincount(
            (self._bins[indices] + rows).ravel(),
            weights=self._gaps[indices].ravel(),
            minlength=len(indices) * self._count,
        )
        error: Floats = np.abs(sums.reshape(len(indices), -1)).sum(axis=1) / indices.shape[1]
        return error


def brier_score(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Mean squared distance of the probabilities to the truth, 0 to 2 (Brier, 1950)."""
    distances = probabilities.astype(np.float64)
    distances[np.arange(len(labels)), labels] -= 1
    return float((distances**2).sum(axis=1).mean())


def log_loss(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Mean of minus the logarithm of the true class's probability, in nats.

    A probability of 0, as int8 may give, counts as the smallest positive float32.
    """
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(true, np.finfo(np.float32).tiny)).mean())
