"""The predictions of a test for every patch."""

from dataclasses import dataclass
from typing import Any, cast

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


def per_class_accuracy(
    confusion: np.ndarray[Any, Any], classes: tuple[str, ...]
) -> dict[str, float | None]:
    """Compute the fraction of each class's patches that are classified correctly.

    Args:
        confusion: int, shape (C, C); rows are true classes.
        classes: Class names.

    Returns:
        Accuracy by class name; None for a class without patches.
    """
    totals = confusion.sum(axis=1)
    return {
        name: float(confusion[i, i] / totals[i]) if totals[i] else None
        for i, name in enumerate(classes)
    }
