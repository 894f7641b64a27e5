"""Where the model looked: occlusion sensitivity, which needs nothing of a model but its answers.

A window is moved over the patch and filled with the patch's mean; where that costs the predicted
class most of its probability, the model looked (Zeiler and Fergus, "Visualizing and Understanding
Convolutional Networks", ECCV 2014).
"""

import numpy as np
import numpy.typing as npt

from eurosat.inference.backend import Patches, Probabilities

CELLS = 8
"""Cells a side of the map."""

_WINDOW = 2
"""Side of the moving window in cells."""


def occlusions(patch: Patches) -> Patches:
    """The patch as it is, then with the window at every place.

    Args:
        patch: Raw pixels, uint8 or uint16, shape (C, size, size).

    Returns:
        Same type, shape (1 + places, C, size, size).
    """
    cell = patch.shape[-1] // CELLS
    mean = patch.mean(axis=(1, 2), keepdims=True).astype(patch.dtype)
    versions = np.repeat(patch[None], 1 + len(_places()), axis=0)
    for version, (row, column) in zip(versions[1:], _places(), strict=True):
        rows = slice(row * cell, (row + _WINDOW) * cell)
        columns = slice(column * cell, (column + _WINDOW) * cell)
        version[:, rows, columns] = mean
    return versions


def saliency(probabilities: Probabilities) -> npt.NDArray[np.float32]:
    """The map, from the model's answers to `occlusions`.

    Args:
        probabilities: float32, shape (1 + places, classes).

    Returns:
        float32, shape (CELLS, CELLS): the predicted class's mean loss of probability when a
        cell is hidden, in [-1, 1]; negative where hiding it made the model surer.
    """
    label = probabilities[0].argmax()
    lost = probabilities[0, label] - probabilities[1:, label]
    total = np.zeros((CELLS, CELLS), np.float32)
    times = np.zeros((CELLS, CELLS), np.float32)
    for loss, (row, column) in zip(lost, _places(), strict=True):
        total[row : row + _WINDOW, column : column + _WINDOW] += loss
        times[row : row + _WINDOW, column : column + _WINDOW] += 1
    return total / times


def _places() -> list[tuple[int, int]]:
    steps = range(CELLS - _WINDOW + 1)
    return [(row, column) for row in steps for column in steps]
