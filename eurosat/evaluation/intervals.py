"""Confidence intervals of a proportion, of the mean of several runs, and of two models' difference.

Every interval is a pair: its lower and its upper end.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from eurosat.calibration import CalibrationError

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

RESAMPLES = 10_000
"""Number of resamples of a bootstrap.

With this number, an end of the 95 % interval varies by 1 % of the width from seed to seed.
"""

_SEED = 0
_CHUNK = 250  # Drawing 250 resamples at once takes some megabytes of indices.


def wilson_interval(proportion: float, count: int) -> Interval:
    """Compute Wilson's 95 % score interval of a proportion (JASA 22, 1927).

    Args:
        proportion: Observed fraction, in [0, 1], of ``count`` observations.
        count: Number of independent observations, at least 1.

    Returns:
        Lower and upper end, in [0, 1].
    """
    from scipy.stats import binomtest

    found = binomtest(round(proportion * count), count).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def student_interval(values: Sequence[float]) -> Interval:
    """Compute Student's 95 % t interval of the mean of two or more independent values.

    Args:
        values: One value per run.

    Returns:
        Lower and upper end; if all values are equal, both ends are the mean.
    """
    from scipy.stats import sem, t

    mean, error = float(np.mean(values)), float(sem(values))
    if error == 0:
        return mean, mean
    low, high = t.interval(0.95, len(values) - 1, loc=mean, scale=error)
    return float(low), float(high)


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], Floats], count: int, confidence: float = 0.95
) -> Interval:
    """Compute the percentile interval of a statistic over resampled images (Efron, 1979).

    The interval is paired if the statistic takes both models' answers to the same images. Images
    that are difficult for both models then do not widen the interval.

    Args:
        statistic: Takes indices of images, int64, shape (R, count), and returns one value per row.
        count: Number of images.
        confidence: Confidence level of the interval, in (0, 1).

    Returns:
        Lower and upper end; repeated calls with the same statistic give the same interval.
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
    """Bootstrap the mean of one value per image, such as a difference of two models."""
    return bootstrap(lambda indices: values[indices].mean(axis=1), len(values), confidence)


def paired_interval(differences: Floats, confidence: float = 0.95) -> Interval:
    """Compute Tango's score interval of the mean difference of two models on the same images.

    The interval (Tango, Statistics in Medicine 17, 1998, 891-908) keeps its confidence level if the
    models' answers differ on few images, and has a width above 0 if the answers differ on none. A
    bootstrap interval would have the width 0 then.

    Args:
        differences: One value per image: 1 if only the candidate is correct, -1 if only the
            baseline is correct, 0 otherwise. A value may also be a difference of fractions,
            between -1 and 1. Fractions vary less than answers to single images; the dispersion is
            estimated from the fractions (quasi-likelihood, Wedderburn, Biometrika 61, 1974,
            439-447). The interval is never narrower than the interval of equal answers.
        confidence: Confidence level of the interval, in (0, 1).

    Returns:
        Lower and upper end.
    """
    gained = float(np.maximum(differences, 0).sum())
    lost = float(np.maximum(-differences, 0).sum())
    changed = gained + lost
    dispersion = float((differences**2).sum()) / changed if changed else 1.0
    counts = gained / dispersion, lost / dispersion, len(differences) / dispersion
    quantile = _quantile(confidence)
    low = _lower_end(*counts, quantile)
    high = -_lower_end(counts[1], counts[0], counts[2], quantile)
    mean = float(differences.mean())
    least = _end_of_equal(len(differences), quantile) if dispersion < 1 else 0.0
    return max(-1.0, min(low, mean - least)), min(1.0, max(high, mean + least))


def _lower_end(gained: float, lost: float, count: float, quantile: float) -> float:
    """Find the smallest mean difference that the score test does not reject, by bisection."""
    low, high = -1.0, (gained - lost) / count
    for _ in range(50):
        middle = (low + high) / 2
        # The maximum-likelihood fraction of lost images, given the mean difference `middle`, is a
        # root of 2 count x^2 + linear x + constant.
        linear = (2 * count - gained + lost) * middle - gained - lost
        constant = -lost * middle * (1 - middle)
        fraction = (math.sqrt(max(linear**2 - 8 * count * constant, 0)) - linear) / (4 * count)
        variance = max(2 * fraction + middle * (1 - middle), 0)
        if gained - lost - count * middle >= quantile * math.sqrt(count * variance):
            low = middle
        else:
            high = middle
    return low


def smallest_loss_ruled_out(count: int) -> float:
    """Compute the largest loss within the 95 % `paired_interval` of ``count`` equal answers."""
    return _end_of_equal(count, _quantile(0.95))


def images_to_rule_out(loss: float) -> float:
    """Compute how many images with equal answers rule out a loss in (0, 1); infinity for 0."""
    squared = _quantile(0.95) ** 2
    return math.ceil(squared * (1 - loss) / loss) if loss else math.inf


def _end_of_equal(count: int, quantile: float) -> float:
    """Compute the negative of `_lower_end` for answers that are all equal."""
    return quantile**2 / (count + quantile**2)


def _quantile(confidence: float) -> float:
    """Compute the two-sided quantile of the standard normal distribution."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def calibration_interval(
    candidate: npt.NDArray[np.float32],
    baseline: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
) -> Interval:
    """Compute the basic bootstrap interval of the difference of two models' calibration errors.

    A resample of few images has a larger calibration error than the images, and the increase is
    largest for well calibrated answers. The percentiles of the difference are therefore too close
    to 0. The basic interval (Davison & Hinkley, 1997, section 5.2.1) reflects the percentiles about
    the observed difference, which corrects the bias.

    Args:
        candidate: Probabilities of the candidate, float32, shape (N, classes).
        baseline: Probabilities of the baseline, float32, shape (N, classes).
        labels: int64, shape (N,).

    Returns:
        Lower and upper end.
    """
    ours, theirs = (
        CalibrationError(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
        for probabilities in (candidate, baseline)
    )
    low, high = bootstrap(lambda rows: ours.of_rows(rows) - theirs.of_rows(rows), len(labels))
    found = ours.overall() - theirs.overall()
    return 2 * found - high, 2 * found - low
