"""The four families of tests that compare a window of traffic with a reference.

The joint level of 0.01 is divided among the families by Bonferroni's correction, and within a
family among the family's tests. A window has drifted if a test of any family is significant and the
change is not smaller than the effect floor.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from eurosat.monitoring.drift.mmd import mean_discrepancy
from eurosat.monitoring.drift.traffic import Traffic

if TYPE_CHECKING:
    from eurosat.monitoring.reference import Reference

ALPHA = 0.01
"""Probability that a window without drift is said to have drifted, all families together."""

FAMILIES: tuple["FamilyName", ...] = ("statistics", "probabilities", "classes", "embeddings")

FAMILY_ALPHA = ALPHA / len(FAMILIES)

EFFECT_FLOOR = 0.2
"""Smallest change that counts, in standard deviations.

Cohen (Statistical Power Analysis, 1988) calls a shift of the mean by 0.2 standard deviations, and a
difference of 0.2 of two arcsine-transformed fractions, small. A window of 300 images cannot find a
change as small as this; the floor keeps windows of thousands of images from alarming about changes
that do not matter.
"""

MIN_PICTURES = 100
"""Fewest images that are tested; with fewer, a class can disappear without a significant test."""

_MOST = 1000
"""Most embeddings of a window that are tested; 2,000 in both samples take 16 MB of distances."""

FamilyName = Literal["statistics", "probabilities", "classes", "embeddings"]


@dataclass(frozen=True)
class Test:
    """One test of a family.

    Attributes:
        name: The statistic or the class; "embedding" for the test of all coordinates.
        p_value: Corrected for the number of tests in the family, in (0, 1].
        effect: Size of the change in standard deviations, at least 0.
        before: Median, or fraction of the class, in the reference; None for embeddings.
        after: Median, or fraction of the class, in the window; None for embeddings.
    """

    __test__ = False  # pytest collects classes of this name

    name: str
    p_value: float
    effect: float
    before: float | None = None
    after: float | None = None

    @property
    def moved(self) -> bool:
        """Whether the change is significant and not below the effect floor."""
        return self.p_value < FAMILY_ALPHA and self.effect >= EFFECT_FLOOR


@dataclass(frozen=True)
class Family:
    """The result of a family.

    Attributes:
        name: Name of the family.
        tests: The tests, in the order of the statistics or classes; empty if none was possible.
        reason: Why no test was possible; empty if tests were made.
    """

    name: FamilyName
    tests: tuple[Test, ...]
    reason: str = ""

    @property
    def p_value(self) -> float | None:
        """The smallest corrected p-value; None if no test was possible."""
        return min((test.p_value for test in self.tests), default=None)

    @property
    def moved(self) -> tuple[Test, ...]:
        """The tests that found a change, the largest change first."""
        found = [test for test in self.tests if test.moved]
        return tuple(sorted(found, key=lambda test: -test.effect))

    @property
    def drift(self) -> bool:
        """Whether a test of the family found a change."""
        return bool(self.moved)


def run_families(
    reference: "Reference",
    window: Traffic,
    embeddings: npt.NDArray[np.float32],
    statistic_names: Sequence[str],
) -> tuple[Family, ...]:
    """Run the tests of all families.

    Args:
        reference: The reference.
        window: The traffic, at least `MIN_PICTURES` images.
        embeddings: Whitened embeddings, shape (M, D); fewer than `MIN_PICTURES` are not tested.
        statistic_names: Names of the S input statistics.

    Returns:
        The results in the order of `FAMILIES`.
    """
    return (
        Family(
            "statistics",
            _kolmogorov_smirnov(reference.statistics, window.statistics, statistic_names),
        ),
        Family(
            "probabilities",
            _kolmogorov_smirnov(reference.probabilities, window.probabilities, reference.classes),
        ),
        Family("classes", _fisher(reference, window)),
        _embeddings(reference, embeddings),
    )


def _kolmogorov_smirnov(
    before: npt.NDArray[np.float32], after: npt.NDArray[np.float32], names: Iterable[str]
) -> tuple[Test, ...]:
    """Compare every column of two samples with the two-sample Kolmogorov-Smirnov test."""
    from scipy.stats import ks_2samp

    count = before.shape[1]
    tests = []
    for column, name in enumerate(names):
        # A reference is stored in float16: probabilities near 1 would differ by the rounding.
        old, new = (
            sample[:, column].astype(np.float16).astype(np.float32) for sample in (before, after)
        )
        # "asymp" uses the exact distribution of the one-sample test with n m / (n + m) images.
        found = ks_2samp(old, new, method="asymp")
        tests.append(
            Test(
                name,
                min(1.0, float(found.pvalue) * count),
                shift_of_distance(float(found.statistic)),
                float(np.median(old)),
                float(np.median(new)),
            )
        )
    return tuple(tests)


def shift_of_distance(distance: float) -> float:
    """Convert the distance of two distribution functions to a shift in standard deviations.

    Two normal distributions whose means differ by s standard deviations have the distance
    2 Phi(s / 2) - 1.

    Args:
        distance: Largest difference of the two distribution functions, in [0, 1].

    Returns:
        The shift; a distance of 1 counts as 0.999, a shift of 6.6.
    """
    return 2 * NormalDist().inv_cdf((1 + min(distance, 0.999)) / 2)


def _fisher(reference: "Reference", window: Traffic) -> tuple[Test, ...]:
    """Compare the fraction of each predicted class with Fisher's exact test.

    A chi-square test over all classes at once misses a class that disappears.
    """
    from scipy.stats import fisher_exact

    classes = reference.classes
    old = np.bincount(reference.probabilities.argmax(axis=1), minlength=len(classes))
    new = np.bincount(window.probabilities.argmax(axis=1), minlength=len(classes))
    total_old, total_new = int(old.sum()), int(new.sum())
    tests = []
    for name, before, after in zip(classes, old.tolist(), new.tolist(), strict=True):
        table = [[before, total_old - before], [after, total_new - after]]
        p_value = float(fisher_exact(table).pvalue)
        fractions = before / total_old, after / total_new
        # Cohen's h. Both fractions are 0 for a class that nothing is predicted as.
        effect = abs(arcsine(fractions[1]) - arcsine(fractions[0]))
        tests.append(Test(name, min(1.0, p_value * len(classes)), effect, *fractions))
    return tuple(tests)


def arcsine(fraction: float) -> float:
    """Transform a fraction in [0, 1] so that its variance does not depend on its size."""
    return 2 * math.asin(math.sqrt(fraction))


def _embeddings(reference: "Reference", known: npt.NDArray[np.float32]) -> Family:
    """Compare the whitened embeddings by their maximum mean discrepancy."""
    if len(known) < MIN_PICTURES:
        return Family(
            "embeddings",
            (),
            f"the log has {len(known)} embeddings since the last test, and a test needs "
            f"{MIN_PICTURES}",
        )
    found = mean_discrepancy(reference.embeddings, known[:: math.ceil(len(known) / _MOST)])
    return Family("embeddings", (Test("embedding", found.p_value, found.shift),))
