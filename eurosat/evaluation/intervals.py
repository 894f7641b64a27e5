"""Intervals: how sure a figure is, alone, over several runs, and between two models."""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from eurosat.calibration import CalibrationError

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

RESAMPLES = 10_000
"""Of a bootstrap: an end of its 95 % interval then moves by 1 % of the width from seed to seed."""

_SEED = 0
_CHUNK = 250  # resamples drawn at once: some megabytes of indices


def wilson_interval(proportion: float, count: int) -> Interval:
    """Bound a proportion by Wilson's 95 % score interval (JASA 22, 1927).

    Args:
        proportion: Observed share, in [0, 1], of ``count`` observations.
        count: Number of independent observations, at least 1.

    Returns:
        Lower and upper bound, in [0, 1].
    """
    from scipy.stats import binomtest

    found = binomtest(round(proportion * count), count).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def student_interval(values: Sequence[float]) -> Interval:
    """Bound the mean of two independent values or more by Student's 95 % t interval.

    Args:
        values: One value a run.

    Returns:
        Lower and upper bound; both are the mean where all values are equal.
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


def paired_interval(differences: Floats, confidence: float = 0.95) -> Interval:
    """Score interval of the mean difference of two models on the same images.

    Of Tango (Statistics in Medicine 17, 1998, 891-908). It holds its confidence where few images
    differ, and stays open where none does; the bootstrap cannot draw what it has not seen.

    Args:
        differences: One value an image: 1 if only the candidate is correct, -1 if only the
            baseline is, 0 otherwise; or a difference of shares, which lies between. Shares vary
            less than whole images, by a factor estimated from them (quasi-likelihood, Wedderburn,
            Biometrika 61, 1974, 439-447); but they get no narrower an interval than equal answers.
        confidence: Probability that the interval is to hold.

    Returns:
        Its lower and upper end.
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
    """The smallest mean difference that the score test does not reject, found by bisection."""
    low, high = -1.0, (gained - lost) / count
    for _ in range(50):
        middle = (low + high) / 2
        # The likeliest share of lost images, if the mean difference were this: a root of
        # 2 count x^2 + linear x + constant.
        linear = (2 * count - gained + lost) * middle - gained - lost
        constant = -lost * middle * (1 - middle)
        share = (math.sqrt(max(linear**2 - 8 * count * constant, 0)) - linear) / (4 * count)
        variance = max(2 * share + middle * (1 - middle), 0)
        if gained - lost - count * middle >= quantile * math.sqrt(count * variance):
            low = middle
        else:
            high = middle
    return low


def smallest_loss_ruled_out(count: int) -> float:
    """The loss that `paired_interval` still allows if all of so many images got equal answers."""
    return _end_of_equal(count, _quantile(0.95))


def images_to_rule_out(loss: float) -> float:
    """How many images with equal answers rule out a loss of this share; infinity for no loss."""
    squared = _quantile(0.95) ** 2
    return math.ceil(squared * (1 - loss) / loss) if loss else math.inf


def _end_of_equal(count: int, quantile: float) -> float:
    """What `_lower_end` gives without any change, with the other sign."""
    return quantile**2 / (count + quantile**2)


def _quantile(confidence: float) -> float:
    """Of the normal distribution, for both sides."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def calibration_interval(
    candidate: npt.NDArray[np.float32],
    baseline: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
) -> Interval:
    """Basic bootstrap interval of the difference of two models' calibration errors.

    A resample of few images is less calibrated than they are, and most so if they are calibrated
    well. The percentiles of the difference therefore lie too near to 0; the basic interval (Davison
    & Hinkley, 1997, section 5.2.1) takes their distance from what was found to the other side.

    Args:
        candidate: Probabilities, float32, shape (N, classes).
        baseline: Those of the other model.
        labels: int64, shape (N,).
    """
    ours, theirs = (
        CalibrationError(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
        for probabilities in (candidate, baseline)
    )
    low, high = bootstrap(lambda rows: ours.of_rows(rows) - theirs.of_rows(rows), len(labels))
    found = ours.overall() - theirs.overall()
    return 2 * found - high, 2 * found - low
