"""Choose, write and read the most confident mistakes of a test, with their pictures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from eurosat.evaluation.predictions import Predictions
from eurosat.files import atomic_write

MISTAKES_FILE = "mistakes.npz"
"""Name of the file of mistakes in a run's folder."""

_COUNT = 20


@dataclass(frozen=True)
class Mistakes:
    """Wrong predictions of a test, the most confident first.

    Attributes:
        pictures: The patches as RGB, uint8, shape (N, height, width, 3).
        files: Name of each patch's file, N strings.
        labels: Name of each true class, N strings.
        predicted: Name of each predicted class, N strings.
        confidence: Probability of each predicted class, float64, in [0, 1], shape (N,).
    """

    pictures: npt.NDArray[np.uint8]
    files: npt.NDArray[np.str_]
    labels: npt.NDArray[np.str_]
    predicted: npt.NDArray[np.str_]
    confidence: npt.NDArray[np.float64]

    def write(self, folder: Path) -> None:
        """Write ``mistakes.npz`` into a run's folder, whole or not at all."""
        with atomic_write(folder / MISTAKES_FILE) as partial:
            np.savez_compressed(
                partial,
                pictures=self.pictures,
                files=self.files,
                labels=self.labels,
                predicted=self.predicted,
                confidence=self.confidence,
            )


def mistaken_rows(predictions: Predictions) -> npt.NDArray[np.int64]:
    """Choose the mistakes to keep.

    Args:
        predictions: The predictions of a test.

    Returns:
        Rows of the most confident wrong predictions, the most confident first, at most 20.
    """
    wrong = np.flatnonzero(~predictions.right)
    return wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:_COUNT]


def read_mistakes(folder: Path) -> Mistakes:
    """Read ``mistakes.npz`` of a run's folder.

    Raises:
        OSError: The file is missing or cannot be read.
        KeyError: The file lacks an array.
        ValueError: The file is damaged.
        zipfile.BadZipFile: The file is damaged.
    """
    with np.load(folder / MISTAKES_FILE, allow_pickle=False) as arrays:
        return Mistakes(
            *(arrays[name] for name in ("pictures", "files", "labels", "predicted", "confidence"))
        )
