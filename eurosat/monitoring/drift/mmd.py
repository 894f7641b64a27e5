"""Maximum mean discrepancy: do two samples of vectors come from one distribution?

Gretton et al., "A Kernel Two-Sample Test", JMLR 13, 2012, with a Gaussian kernel whose width is the
median distance within the reference, and the p-value of a permutation test.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

PERMUTATIONS = 999
"""Number of permutations; the smallest p-value is then 0.001.

A family of four at a joint level of 0.01 needs p-values below 0.0025, which 200 permutations cannot
give.
"""

_SEED = 0
_CHUNK = 333  # permutations at once: 333 x 1,300 float32 take 1.7 MB


class Discrepancy(NamedTuple):
    """The result of a test.

    Attributes:
        p_value: In [0.001, 1].
        shift: The shift of the mean, in standard deviations, that would cause the same discrepancy
            between two normal distributions; 0 if the samples are closer than chance makes them.
    """

    p_value: float
    shift: float


def mean_discrepancy(
    reference: npt.NDArray[np.float32], sample: npt.NDArray[np.float32]
) -> Discrepancy:
    """Test whether a sample comes from the distribution of a reference.

    The vectors must be whitened. Without whitening, a few directions of large variance decide the
    distances, and a change of brightness by 10 % is missed.

    Args:
        reference: Whitened vectors, float32, shape (M, D), M at least 2.
        sample: Vectors in the same coordinates, float32, shape (N, D), N at least 2.

    Returns:
        The p-value and the size of the change. Repeated calls give the same result.
    """
    count, total = len(sample), len(reference) + len(sample)
    pooled = np.concatenate([sample, reference]).astype(np.float32)
    distances = _squared_distances(pooled)
    within = distances[count:, count:][np.triu_indices(total - count, 1)]
    # The median is 0 if most images of the reference are equal; any width does then.
    width = float(np.median(within)) or 1.0
    kernel = np.exp(distances / np.float32(-width))
    weights = np.full(total, -1 / (total - count), np.float32)
    weights[:count] = 1 / count
    observed = _statistic(weights[None], kernel)[0]
    generator = np.random.default_rng(_SEED)
    larger = 0
    for _ in range(PERMUTATIONS // _CHUNK):
        shuffled = generator.permuted(np.tile(weights, (_CHUNK, 1)), axis=1)
        # Rounding must not make a permutation smaller that equals the observed order.
        larger += int(np.count_nonzero(_statistic(shuffled, kernel) >= observed * (1 - 1e-5)))
    return Discrepancy(float(1 + larger) / (1 + PERMUTATIONS), _shift(kernel, count, width))


def _squared_distances(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    squares = (vectors**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * (vectors @ vectors.T)
    np.fill_diagonal(distances, 0)
    return np.asarray(np.maximum(distances, 0), np.float32)


def _statistic(
    weights: npt.NDArray[np.float32], kernel: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The squared discrepancy, with the diagonal, for each row of weights."""
    return np.asarray(np.einsum("ij,ij->i", weights @ kernel, weights))


def _shift(kernel: npt.NDArray[np.float32], count: int, width: float) -> float:
    """Express the unbiased squared discrepancy as a shift of the mean of a normal distribution.

    For the kernel exp(-d^2 / w) and two normal distributions with unit variance, whose means differ
    by s, the mean kernel between the samples is that within a sample times exp(-s^2 / (w + 4)).
    """

    def within(block: npt.NDArray[np.float32]) -> float:
        size = len(block)
        return float((block.sum(dtype=np.float64) - np.trace(block)) / (size * (size - 1)))

    inside = (within(kernel[:count, :count]) + within(kernel[count:, count:])) / 2
    between = float(kernel[:count, count:].mean(dtype=np.float64))
    if between >= inside:
        return 0.0
    # Samples without any overlap have a kernel of 0 between them; the least positive number of
    # float32 keeps the shift finite.
    ratio = max(between / inside, float(np.finfo(np.float32).tiny))
    return math.sqrt(-(width + 4) * math.log(ratio))
