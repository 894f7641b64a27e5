"""The figures of one model: what it answered summed up, and what it costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eurosat.evaluation.intervals import brier_score, calibration_error, log_loss
from eurosat.gate.corruptions import Corruption
from eurosat.gate.evaluate import Answers, Latency


@dataclass(frozen=True)
class Measurement:
    """The figures of one model. Shares are 0 to 1.

    Attributes:
        accuracy: Of the clean test images.
        recall: Of each class; None for a class without test images.
        calibration_error: Expected calibration error in 15 bins.
        brier_score: Mean squared distance of the probabilities to the truth.
        log_loss: Mean of minus the true class's logarithmic probability, in nats.
        milliseconds: Of a call with one image.
        milliseconds_of_batch: Of a call with 64 images.
        images_per_second: In such batches.
        bytes: Of the file.
        corrupted_accuracy: Mean over all corruptions and severities.
        corrupted: Accuracy by corruption, at each severity.
    """

    accuracy: float
    recall: dict[str, float | None]
    calibration_error: float
    brier_score: float
    log_loss: float
    milliseconds: float
    milliseconds_of_batch: float
    images_per_second: float
    bytes: int
    corrupted_accuracy: float
    corrupted: dict[Corruption, list[float]]


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
        accuracy=float(answers.correct.mean()),
        recall={
            name: float(correct.mean()) if len(correct) else None for name, correct in own.items()
        },
        calibration_error=calibration_error(answers.probabilities, labels),
        brier_score=brier_score(answers.probabilities, labels),
        log_loss=log_loss(answers.probabilities, labels),
        milliseconds=latency.one,
        milliseconds_of_batch=latency.batch,
        images_per_second=latency.images_per_second,
        bytes=size,
        corrupted_accuracy=float(correct_corrupted(answers).mean()),
        corrupted={
            corruption: correct.mean(axis=1).tolist()
            for corruption, correct in answers.correct_corrupted.items()
        },
    )


def correct_corrupted(answers: Answers) -> npt.NDArray[np.float64]:
    """Share of each image's corrupted versions that are recognised, shape (N,)."""
    share: npt.NDArray[np.float64]
    share = np.concatenate(list(answers.correct_corrupted.values())).mean(axis=0)
    return share


def relative_corruption_error(candidate: Measurement, baseline: Measurement) -> float | None:
    """Mean corruption error of the candidate relative to the baseline.

    As Hendrycks and Dietterich (ICLR 2019): a corruption's errors over all severities, divided by
    the baseline's, and the mean of that over corruptions, so that hard corruptions do not decide
    alone. Below 1 the candidate is the more robust.

    Returns:
        None if the baseline makes no error under some corruption.
    """
    ratios = []
    for corruption, theirs in baseline.corrupted.items():
        errors = sum(1 - share for share in theirs)
        if math.isclose(errors, 0, abs_tol=1e-12):
            return None
        ratios.append(sum(1 - share for share in candidate.corrupted[corruption]) / errors)
    return sum(ratios) / len(ratios)
