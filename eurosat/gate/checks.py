"""Check a candidate: each check compares a figure of the candidate with the baseline's figure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from eurosat.evaluation.intervals import (
    Interval,
    calibration_interval,
    images_to_rule_out,
    mean_interval,
    paired_interval,
    smallest_loss_ruled_out,
)
from eurosat.gate.corruption import Corruption
from eurosat.gate.evaluate import Answers
from eurosat.gate.measurement import Measurement, correct_corrupted
from eurosat.gate.thresholds import Thresholds

Unit = Literal["share", "error", "milliseconds", "bytes"]
"""Units of the figures, under their names in ``gate.json``: "share" is a fraction, 0 to 1.

Fractions and errors are compared by difference, milliseconds and bytes by ratio.
"""


@dataclass(frozen=True)
class Check:
    """One line of the verdict.

    Attributes:
        name: Name of the compared figure.
        unit: Unit of the figures.
        candidate: The candidate's figure.
        baseline: The baseline's figure.
        change: Candidate less baseline; candidate divided by baseline for milliseconds and bytes.
        interval: Interval of the change, where the change is estimated from a sample of images.
        allowed: Limit of the change, or of an end of the interval of the change.
        rule: The limit in words.
        passed: Whether the check passed.
        bootstrap: Bootstrap interval of the change, where the check tests non-inferiority. The
            report shows the bootstrap interval; ``passed`` does not depend on it.
        note: Hint for the user, where too few images made the check fail.
    """

    name: str
    unit: Unit
    candidate: float
    baseline: float
    change: float
    interval: Interval | None
    allowed: float
    rule: str
    passed: bool
    bootstrap: Interval | None = None
    note: str = ""


@dataclass(frozen=True)
class GroupChange:
    """Change of accuracy in one group of answers: a class, or a corruption.

    Attributes:
        name: Name of the class, or title of the corruption.
        images: Number of test images in the group.
        candidate: Fraction of the images that the candidate recognised.
        baseline: Fraction of the images that the baseline recognised.
        interval: Interval of the difference, with Bonferroni's correction for the number of groups.
        passed: False if accuracy fell by more than the margin and chance does not explain the fall.
    """

    name: str
    images: int
    candidate: float
    baseline: float
    interval: Interval
    passed: bool

    @property
    def change(self) -> float:
        """Candidate less baseline."""
        return self.candidate - self.baseline


def class_changes(
    candidate: Answers,
    baseline: Answers,
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    margin: float,
) -> list[GroupChange]:
    """Compare the recall of every class that has test images, by `_group_changes`."""
    groups = {
        name: (candidate.correct[labels == label], baseline.correct[labels == label])
        for label, name in enumerate(classes)
        if (labels == label).any()
    }
    return _group_changes(groups, margin)


def corruption_changes(
    candidate: Answers, baseline: Answers, corruptions: Sequence[Corruption], margin: float
) -> list[GroupChange]:
    """Compare the accuracy under every corruption, over its severities, by `_group_changes`."""
    groups = {
        corruption.title: (
            candidate.correct_corrupted[corruption.name].mean(axis=0),
            baseline.correct_corrupted[corruption.name].mean(axis=0),
        )
        for corruption in corruptions
    }
    return _group_changes(groups, margin)


def _group_changes(
    groups: Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]], margin: float
) -> list[GroupChange]:
    """Compare every group, given which images of the group each model recognised.

    Args:
        groups: For each name of a group, the recognised fraction of every image by candidate and
            by baseline, in [0, 1], two arrays of shape (N,).
        margin: Allowed fall of a group's accuracy, in percentage points.

    A group fails if its accuracy fell by more than ``margin`` points and the whole interval of the
    change lies below 0, so that chance does not explain the fall. Bonferroni's correction for the
    number of groups widens the intervals: the chance that any group fails by accident stays at 5 %.
    """
    changes = []
    for name, (ours, theirs) in groups.items():
        differences = ours.astype(np.float64) - theirs
        interval = paired_interval(differences, 1 - 0.05 / len(groups))
        fell = _points(-differences.mean()) > margin and interval[1] < 0
        fractions = float(ours.mean()), float(theirs.mean())
        changes.append(GroupChange(name, len(ours), *fractions, interval, not fell))
    return changes


def check(
    answers: tuple[Answers, Answers],
    figures: tuple[Measurement, Measurement],
    classes: Sequence[GroupChange],
    corruptions: Sequence[GroupChange],
    labels: npt.NDArray[np.int64],
    allowed: Thresholds,
    *,
    identical: bool,
) -> list[Check]:
    """Compare candidate and baseline.

    Args:
        answers: Answers of candidate and baseline.
        figures: Figures of candidate and baseline.
        classes: Changes from `class_changes`.
        corruptions: Changes from `corruption_changes`.
        labels: True classes of the test images, int64, shape (N,).
        allowed: The thresholds.
        identical: Whether both models are the same file; identical files always pass the
            non-inferiority checks.

    Returns:
        One check per line of the report, in the report's order.
    """
    ours, theirs = figures
    calibration = ours.calibration_error - theirs.calibration_error
    interval = calibration_interval(answers[0].probabilities, answers[1].probabilities, labels)
    return [
        _not_inferior(
            "accuracy",
            (ours.accuracy, theirs.accuracy),
            answers[0].correct.astype(np.float64) - answers[1].correct,
            "accuracy_margin",
            allowed.accuracy_margin,
            identical=identical,
        ),
        _largest_loss("recall", classes, allowed.class_margin),
        Check(
            "calibration error",
            "error",
            ours.calibration_error,
            theirs.calibration_error,
            calibration,
            interval,
            allowed.calibration_margin,
            f"at most +{allowed.calibration_margin:g}, or lower end 0 or less",
            calibration <= allowed.calibration_margin or interval[0] <= 0,
        ),
        _check_cost(
            "time of one image",
            "milliseconds",
            (ours.milliseconds, theirs.milliseconds),
            allowed.max_latency_ratio,
        ),
        _check_cost(
            "time of 64 images",
            "milliseconds",
            (ours.milliseconds_of_batch, theirs.milliseconds_of_batch),
            allowed.max_latency_ratio,
        ),
        _check_cost("size", "bytes", (ours.bytes, theirs.bytes), allowed.max_size_ratio),
        _not_inferior(
            "accuracy, corrupted",
            (ours.corrupted_accuracy, theirs.corrupted_accuracy),
            correct_corrupted(answers[0]) - correct_corrupted(answers[1]),
            "robustness_margin",
            allowed.robustness_margin,
            identical=identical,
        ),
        _largest_loss("accuracy", corruptions, allowed.corruption_margin),
    ]


def _largest_loss(what: str, changes: Sequence[GroupChange], margin: float) -> Check:
    """Check the group with the largest loss, among the failed groups if any group failed."""
    largest_loss = min(changes, key=lambda change: (change.passed, change.change))
    return Check(
        f"{what}, {largest_loss.name}",
        "share",
        largest_loss.candidate,
        largest_loss.baseline,
        largest_loss.change,
        largest_loss.interval,
        -margin / 100,
        f"at least {0.0 - margin:g} points, or upper end 0 or more",
        largest_loss.passed,
    )


def _not_inferior(
    name: str,
    fractions: tuple[float, float],
    differences: npt.NDArray[np.float64],
    option: str,
    margin: float,
    *,
    identical: bool,
) -> Check:
    """Check non-inferiority: the interval must rule out a loss larger than the margin.

    The check does not test whether the difference is significant, because with few images no
    difference is significant, and every candidate would pass.
    """
    interval = paired_interval(differences)
    passed = identical or _points(interval[0]) >= -margin
    return Check(
        name,
        "share",
        *fractions,
        fractions[0] - fractions[1],
        interval,
        -margin / 100,
        "the same file" if identical else f"lower end at least {0.0 - margin:g} points",
        passed,
        mean_interval(differences),
        "" if passed else _too_few(len(differences), option, margin),
    )


def _too_few(images: int, option: str, margin: float) -> str:
    """Give a hint if even equal answers to so few images cannot rule out the margin, else ""."""
    needed = images_to_rule_out(margin / 100)
    if images >= needed:
        return ""
    allow = math.ceil(1000 * smallest_loss_ruled_out(images)) / 10
    larger = f", which takes {needed:,} images" if math.isfinite(needed) else ""
    return (
        f"{images:,} test images are too few to tell: even equal answers to all of them do not "
        f"rule out a loss of {margin:g} points{larger}. Test on more images, or allow more with "
        f"--{option}, from {allow:g} on"
    )


def _check_cost(name: str, unit: Unit, costs: tuple[float, float], maximum: float) -> Check:
    ratio = costs[0] / costs[1]
    return Check(
        name, unit, *costs, ratio, None, maximum, f"at most {maximum:g} times", ratio <= maximum
    )


def _points(fraction: float) -> float:
    """Convert to percentage points, without the rounding errors of sums of fractions."""
    return round(100 * fraction, 9)
