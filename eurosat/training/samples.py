"""Samples of a test for people to look at: the predictions that say most about a model."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eurosat.data.opened import OpenedData
from eurosat.evaluation.predictions import Predictions
from eurosat.plain_text import plain

_SAMPLES_PER_CLASS = 4
"""How many right and how many wrong predictions of each class are samples."""


@dataclass(frozen=True)
class Sample:
    """A patch of a test with its prediction."""

    picture: npt.NDArray[np.uint8]
    """RGB of shape (H, W, 3)."""
    file: str
    label: str
    predicted: str
    confidence: float
    """Probability of the predicted class, in [0, 1]."""
    probabilities: list[float]
    """Probability of each class, in [0, 1]."""

    @property
    def right(self) -> bool:
        """Whether the predicted class is the true class."""
        return self.label == self.predicted

    @property
    def caption(self) -> str:
        """True and predicted class, confidence and file in a line."""
        return f"{self.label}, predicted {self.predicted} ({self.confidence:.1%}), {self.file}"


def draw_samples(predictions: Predictions, data: OpenedData) -> list[Sample]:
    """Choose samples of a test and fetch their pictures.

    Args:
        predictions: What the test found.
        data: Where the pictures come from.

    Returns:
        The rows of `sample_rows`.
    """
    chosen = sample_rows(predictions)
    classes = predictions.classes
    return [
        Sample(
            picture=picture,
            file=plain(predictions.files[row]),
            label=classes[predictions.labels[row]],
            predicted=classes[predictions.predicted[row]],
            confidence=float(predictions.confidence[row]),
            probabilities=predictions.probabilities[row].tolist(),
        )
        for row, picture in zip(
            chosen, data.rgb_patches(predictions.indices[chosen].tolist()), strict=True
        )
    ]


def sample_rows(predictions: Predictions) -> list[int]:
    """Choose the predictions that say most about a model.

    Args:
        predictions: What a test found.

    Returns:
        Rows, by true class: its most confident mistakes, then its least confident right answers,
        at most four of each.
    """
    by_confidence = np.argsort(predictions.confidence, kind="stable")
    chosen: list[int] = []
    for label in range(len(predictions.classes)):
        own = by_confidence[predictions.labels[by_confidence] == label]
        right = predictions.right[own]
        chosen += own[~right][::-1][:_SAMPLES_PER_CLASS].tolist()
        chosen += own[right][:_SAMPLES_PER_CLASS].tolist()
    return chosen
