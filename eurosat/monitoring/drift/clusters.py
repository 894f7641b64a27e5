"""Clustered traffic: requests that follow each other show the same place.

All tests of drift need independent images. Thirty scenes with ten requests each are thirty
observations rather than 300, and 97 % of such windows would be called drifted. The similarity of
requests is measured as geostatistics measures it, by a variogram (Matheron, Economic Geology 58,
1963) over the order of the requests in place of the distance on the ground.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eurosat.monitoring.drift.traffic import Traffic

LONGEST = 25
"""Largest number of requests in a row that are recognised as one place.

More requests in a row cannot be told from a change of the traffic, and count as drift.
"""

_BLOCK = 100
"""Requests in one variogram. The median over the blocks ignores the block in which drift begins."""

_SHUFFLES = 50
_SEED = 0
_DETECTED = 4.0
"""Standard deviations of shuffled traffic that the similarity of neighbours must exceed.

Independent traffic exceeds four standard deviations in about 3 of 100,000 windows.
"""
_ENDED = 2.0
"""Standard deviations below which requests at a lag no longer resemble each other."""


@dataclass(frozen=True)
class Clusters:
    """How much requests resemble the requests after them.

    Attributes:
        stride: Requests after which the traffic no longer resembles itself; 1 for independent
            traffic. Every stride-th request is an independent image.
        similarity: Similarity of a request and the next one: 0 for independent requests, 1 for
            equal images.
    """

    stride: int
    similarity: float


def find_clusters(traffic: Traffic) -> Clusters:
    """Measure how many requests in a row show one place.

    Args:
        traffic: Requests in the order of their times; fewer than 100 count as independent.

    Returns:
        The stride and the similarity, from the median variogram of blocks of 100 requests.
    """
    blocks = [
        values
        for start in range(0, len(traffic) - _BLOCK + 1, _BLOCK)
        if (values := _values(traffic.rows(slice(start, start + _BLOCK)))).shape[1]
    ]
    if not blocks:  # few requests, or all images are equal, which the tests of drift will say
        return Clusters(1, 0.0)
    curves = [_similarity(values, LONGEST) for values in blocks]
    similarity = np.median(curves, axis=0)
    generator = np.random.default_rng(_SEED)
    deviation = np.std(
        [
            np.median([_similarity(generator.permutation(values), 1)[0] for values in blocks])
            for _ in range(_SHUFFLES)
        ]
    )
    near = max(float(similarity[0]), 0.0)
    # If two callers take turns, only every second request resembles the first.
    if max(similarity[:2]) <= _DETECTED * deviation:
        return Clusters(1, near)
    quiet = similarity < _ENDED * deviation
    ends = np.flatnonzero(quiet[:-1] & quiet[1:])
    return Clusters(max(int(ends[0]) + 1 if len(ends) else LONGEST, 2), near)


def _similarity(values: npt.NDArray[np.float64], longest: int) -> npt.NDArray[np.float64]:
    """One minus the variogram in units of its sill, at lags 1 to ``longest``."""
    # All pairs of rows have a mean half squared difference of the variance, n / (n - 1) = 1.01.
    sill = len(values) / (len(values) - 1)
    return np.array(
        [
            1 - ((values[lag:] - values[:-lag]) ** 2).mean() / (2 * sill)
            for lag in range(1, longest + 1)
        ]
    )


def _values(traffic: Traffic) -> npt.NDArray[np.float64]:
    """Ranks of the statistics, and one column a predicted class, each with variance 1."""
    from scipy.stats import rankdata

    ranks = rankdata(traffic.statistics, axis=0)
    classes = np.eye(traffic.probabilities.shape[1])[traffic.probabilities.argmax(axis=1)]
    values = np.concatenate([ranks, classes], axis=1)
    deviation = values.std(axis=0)
    varying = deviation > 0
    return np.asarray((values - values.mean(axis=0))[:, varying] / deviation[varying])
