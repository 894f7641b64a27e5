"""The smallest change that a window of a given size finds in nine of ten windows."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from eurosat.monitoring.drift.families import (
    EFFECT_FLOOR,
    FAMILY_ALPHA,
    arcsine,
    shift_of_distance,
)

if TYPE_CHECKING:
    from eurosat.monitoring.reference import Reference

POWER = 0.9
"""Fraction of windows in which a change of the stated size is found."""


@dataclass(frozen=True)
class Detectable:
    """The smallest change that is found with probability `POWER`.

    Attributes:
        pictures: Number of images in the window.
        shift: Smallest shift of one input statistic, in standard deviations.
        classes: For each class, the largest smaller fraction and the smallest larger fraction of
            predictions that are found; the smaller fraction is None if even the disappearance of
            the class is not found.
    """

    pictures: int
    shift: float
    classes: dict[str, tuple[float | None, float]]


def smallest_detectable(reference: "Reference", pictures: int) -> Detectable:
    """Compute the smallest changes that are found.

    The shift follows from the asymptotic distribution of the Kolmogorov-Smirnov distance, whose
    standard deviation is at most that of a fraction of one half. The fractions follow from the
    normal approximation of arcsine-transformed fractions (Cohen, 1988, chapter 6).

    Args:
        reference: The reference.
        pictures: Number of images in the window, at least 1.
    """
    from scipy.stats import kstwo

    normal = NormalDist()
    count = len(reference.labels)
    both = pictures * count / (pictures + count)
    level = FAMILY_ALPHA / reference.statistics.shape[1]
    critical = float(kstwo.isf(level, max(round(both), 1)))
    distance = critical + normal.inv_cdf(POWER) * 0.5 / both**0.5
    level = FAMILY_ALPHA / len(reference.classes)
    needed = (normal.inv_cdf(1 - level / 2) + normal.inv_cdf(POWER)) / both**0.5
    needed = max(needed, EFFECT_FLOOR)
    predicted = np.bincount(
        reference.probabilities.argmax(axis=1), minlength=len(reference.classes)
    )
    return Detectable(
        pictures,
        max(shift_of_distance(distance), EFFECT_FLOOR),
        {
            name: _ends(fraction, needed)
            for name, fraction in zip(reference.classes, (predicted / count).tolist(), strict=True)
        },
    )


def _ends(fraction: float, effect: float) -> tuple[float | None, float]:
    """The fractions that differ from a fraction by an effect in arcsine units."""
    angle = arcsine(fraction)
    low, high = angle - effect, min(angle + effect, np.pi)
    return (
        float(np.sin(low / 2) ** 2) if low >= 0 else None,
        float(np.sin(high / 2) ** 2),
    )
