"""Compute the figures of one model: accuracy and other metrics, latency and size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eurosat.gate.evaluate import Answers, Latency
from eurosat.metrics import metrics


@dataclass(frozen=True)
class Measurement:
    """Figures of one model; fractions are 0 to 1.

    Attributes:
        scores: Value of every metric of `eurosat.metrics.metrics` by name, for the clean test
            images.
        recall: Recall of each class; None for a class without test images.
        milliseconds: Milliseconds of a call with one image.
        milliseconds_of_batch: Milliseconds of a call with 64 images.
        images_per_second: Images per second in calls with 64 images.
        bytes: Size of the model file and its companion files, in bytes.
        corrupted_accuracy: Mean accuracy over all corruptions and severities.
        corrupted: Accuracy at each severity, by name of the corruption.
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
        """Fraction of the clean test images that the model recognises."""
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
    """Compute the figures of one model.

    Args:
        answers: The answers of the model.
        latency: The latency of the model.
        size: Size of the model's files, in bytes.
        labels: True classes of the test images, int64, shape (N,).
        classes: The class names in index order.
    """
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
    """Compute which fraction of each image's corrupted versions a model recognises, shape (N,)."""
    fraction: npt.NDArray[np.float64]
    fraction = np.concatenate(list(answers.correct_corrupted.values())).mean(axis=0)
    return fraction


def relative_corruption_error(candidate: Measurement, baseline: Measurement) -> float | None:
    """Compute the mean corruption error of the candidate relative to the baseline.

    Hendrycks and Dietterich (ICLR 2019) define the error: for each corruption, the candidate's
    errors over all severities are divided by the baseline's errors, and the ratios are averaged
    over the corruptions. The division keeps hard corruptions from dominating the mean.

    Returns:
        The mean ratio, below 1 if the candidate is more robust than the baseline; None if the
        baseline makes no error under some corruption.
    """
    ratios = []
    for name, theirs in baseline.corrupted.items():
        errors = sum(1 - fraction for fraction in theirs)
        if math.isclose(errors, 0, abs_tol=1e-12):
            return None
        ratios.append(sum(1 - fraction for fraction in candidate.corrupted[name]) / errors)
    return sum(ratios) / len(ratios)
