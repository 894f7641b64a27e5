"""What can be said about accuracy and class fractions without labels.

The estimated accuracy is the difference of confidences (Guillory et al., "Predicting with
Confidence on Unseen Distributions", ICCV 2021). It holds only while the inputs look as before:
after a swap of channels, an estimate of 90 % was measured where 21 % was true. The class fractions
come from soft black-box shift estimation (Lipton, Wang and Smola, "Detecting and Correcting for
Label Shift with Black Box Predictors", ICML 2018), which holds only if the images of each class
look as before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eurosat.monitoring.drift.families import Family
from eurosat.monitoring.drift.traffic import Traffic

if TYPE_CHECKING:
    from eurosat.monitoring.reference import Reference

_RESAMPLES = 200
"""Bootstrap resamples; an end of a 95 % interval then varies by about a tenth of the width."""
_SEED = 0
_QUANTILE = 1.96
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Estimate:
    """A number that was estimated without labels, or the reason why it cannot be estimated.

    Attributes:
        value: The estimate, in [0, 1]; None if it cannot be estimated.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        reason: Why there is no estimate; empty if there is one.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class ClassFraction:
    """The estimated fraction of images whose true class is ``name``.

    Attributes:
        name: The class.
        reference: Fraction of the class among the labels of the reference.
        value: Estimated fraction in the window.
        low: Lower end of the 95 % bootstrap interval.
        high: Upper end of the 95 % bootstrap interval.
    """

    name: str
    reference: float
    value: float
    low: float
    high: float


def estimate_accuracy(
    reference: "Reference", window: Traffic, families: Sequence[Family]
) -> Estimate:
    """Estimate the accuracy in a window whose inputs are quiet.

    Args:
        reference: The reference.
        window: The traffic.
        families: The results of the window's tests.

    Returns:
        The accuracy in the reference plus the change of the mean confidence, with the interval of
        both samples; or "cannot be estimated" if a family found drift.
    """
    drifted = [family.name for family in families if family.drift]
    if drifted:
        return Estimate(None, reason=f"cannot be estimated: drift of {', '.join(drifted)}")
    confidence = reference.probabilities.max(axis=1).astype(np.float64)
    correct = reference.probabilities.argmax(axis=1) == reference.labels
    ours = window.probabilities.max(axis=1).astype(np.float64)
    gap = correct - confidence
    value = float(gap.mean() + ours.mean())
    error = float(np.sqrt(gap.var() / len(gap) + ours.var() / len(ours)))
    low, high = value - _QUANTILE * error, value + _QUANTILE * error
    value, low, high = (min(max(number, 0.0), 1.0) for number in (value, low, high))
    return Estimate(value, low, high)


def estimate_fractions(reference: "Reference", window: Traffic) -> tuple[ClassFraction, ...]:
    """Estimate the fraction of each true class in a window, under the assumption of label shift.

    Args:
        reference: The reference.
        window: The traffic.

    Returns:
        The fractions in the order of the classes, which sum to 1; empty if the reference has no
        image of some class, because a class without an image cannot be told from the others.
    """
    classes = len(reference.classes)
    labels, probabilities = reference.labels, reference.probabilities
    if len(np.unique(labels)) < classes:
        return ()
    prior = np.bincount(labels, minlength=classes) / len(labels)
    value = _solve(labels, probabilities, window.probabilities)
    generator = np.random.default_rng(_SEED)
    resampled = []
    for _ in range(_RESAMPLES):
        ours = generator.integers(len(window), size=len(window))
        theirs = generator.integers(len(labels), size=len(labels))
        if len(np.unique(labels[theirs])) == classes:
            resampled.append(
                _solve(labels[theirs], probabilities[theirs], window.probabilities[ours])
            )
    ends = np.quantile(resampled, [0.025, 0.975], axis=0) if resampled else [value, value]
    return tuple(
        ClassFraction(name, *(float(column[index]) for column in (prior, value, *ends)))
        for index, name in enumerate(reference.classes)
    )


def _solve(
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float32],
    observed: npt.NDArray[np.float32],
) -> npt.NDArray[np.float64]:
    """Find the mixture of the classes' mean probabilities that is nearest to the observed mean."""
    from scipy.optimize import nnls

    classes = probabilities.shape[1]
    means = np.stack([probabilities[labels == index].mean(axis=0) for index in range(classes)])
    fractions, _ = nnls(means.T.astype(np.float64), observed.mean(axis=0).astype(np.float64))
    total = fractions.sum()
    return np.asarray(fractions / total if total else np.full(classes, 1 / classes))
