"""The predictions of a test for every patch."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Predictions:
    """The predictions of a test for every patch, in the order of the data."""

    classes: tuple[str, ...]
    """The C class names in index order."""
    files: list[str]
    """Name of each patch's file, N names."""
    indices: npt.NDArray[np.int64]
    """Position of each patch in the store, shape (N,)."""
    labels: npt.NDArray[np.int64]
    """Index of each patch's true class, shape (N,)."""
    probabilities: npt.NDArray[np.float64]
    """Class probabilities of each patch, shape (N, C), in [0, 1]."""

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Index of the most probable class, shape (N,)."""
        return cast("npt.NDArray[np.int64]", self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> npt.NDArray[np.float64]:
        """Probability of the most probable class, shape (N,)."""
        return cast("npt.NDArray[np.float64]", self.probabilities.max(axis=1))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the most probable class is the true class, shape (N,)."""
        return cast("npt.NDArray[np.bool_]", self.predicted == self.labels)

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """Counts of shape (C, C), true class by row, predicted class by column."""
        return count_confusion(self.labels, self.predicted, len(self.classes))

    @property
    def per_class_accuracy(self) -> dict[str, float | None]:
        """Fraction of each class's patches that are classified correctly.

        The fraction is None for a class without patches.
        """
        confusion = self.confusion
        totals = confusion.sum(axis=1)
        return {
            name: float(confusion[i, i] / totals[i]) if totals[i] else None
            for i, name in enumerate(self.classes)
        }


def count_confusion(
    labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int
) -> npt.NDArray[np.int64]:
    """Count the patches of each pair of true and predicted class.

    Args:
        labels: Index of each patch's true class, shape (N,).
        predicted: Index of each patch's predicted class, shape (N,).
        classes: Number of classes, C.

    Returns:
        Counts of shape (C, C), true class by row, predicted class by column.
    """
    pairs = np.bincount(labels * classes + predicted, minlength=classes**2)
    return pairs.reshape(classes, classes)
