"""The figures of one model: what it answered summed up, and what it costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eurosat.gate.evaluate import Answers, Latency
from eurosat.metrics import metrics


@dataclass(frozen=True)
class Measurement:
    """The figures of one model. Fractions are 0 to 1.

    Attributes:
        scores: Value of every metric of the list by name, for the clean test images.
        recall: Of each class; None for a class without test images.
        milliseconds: Of a call with one image.
        milliseconds_of_batch: Of a call with 64 images.
        images_per_second: In such batches.
        bytes: Of the file.
        corrupted_accuracy: Mean over all corruptions and severities.
        corrupted: Accuracy by name of the corruption, at each severity.
    """

    scores: dict[str, float]
    recall: dict[str, float | None]
    milliseconds: float
    milliseconds_of_batch: float
    images_per_second: float
    bytes: int
    corrupted_accuracy: float
    corrupted: dict[str, list[float]]

    @property
    def accuracy(self) -> float:
        """Fraction of the clean test images that are recognised."""
        return self.scores["accuracy"]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error in 15 bins."""
        return self.scores["ece"]


def measure(
    answers: Answers,
    latency: Latency,
    size: int,
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
) -> Measurement:
    """Sum up what one model answered, and what it costs."""
    own = {name: answers.correct[labels == label] for label, name in enumerate(classes)}
    return Measurement(
        scores={metric.name: metric.score(answers.probabilities, labels) for metric in metrics()},
        recall={
            name: float(correct.mean()) if len(correct) else None for name, correct in own.items()
        },
        milliseconds=latency.one,
        milliseconds_of_batch=latency.batch,
        images_per_second=latency.images_per_second,
        bytes=size,
        corrupted_accuracy=float(correct_corrupted(answers).mean()),
        corrupted={
            name: correct.mean(axis=1).tolist()
            for name, correct in answers.correct_corrupted.items()
        },
    )


def correct_corrupted(answers: Answers) -> npt.NDArray[np.float64]:
    """Fraction of each image's corrupted versions that are recognised, shape (N,)."""
    fraction: npt.NDArray[np.float64]
    fraction = np.concatenate(list(answers.correct_corrupted.values())).mean(axis=0)
    return fraction


def relative_corruption_error(candidate: Measurement, baseline: Measurement) -> float | None:
    """Mean corruption error of the candidate relative to the baseline.

    As Hendrycks and Dietterich (ICLR 2019): a corruption's errors over all severities, divided by
    the baseline's, and the mean of that over corruptions, so that hard corruptions do not decide
    alone. Below 1 the candidate is the more robust.

    Returns:
        None if the baseline makes no error under some corruption.
    """
    ratios = []
    for name, theirs in baseline.corrupted.items():
        errors = sum(1 - fraction for fraction in theirs)
        if math.isclose(errors, 0, abs_tol=1e-12):
            return None
        ratios.append(sum(1 - fraction for fraction in candidate.corrupted[name]) / errors)
    return sum(ratios) / len(ratios)
