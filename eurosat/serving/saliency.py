"""Where the model looked: occlusion sensitivity, which needs nothing of a model but its answers.

A window is moved over the patch and filled with the patch's mean; where that costs the predicted
class most of its probability, the model looked (Zeiler and Fergus, "Visualizing and Understanding
Convolutional Networks", ECCV 2014).
"""

import numpy as np
import numpy.typing as npt

from eurosat.inference.backend import Patches, Probabilities

CELLS = 8
"""Cells a side of the map; a patch with fewer pixels a side has one cell a pixel."""

_WINDOW = 2
"""Side of the moving window in cells."""


def occlusions(patch: Patches) -> Patches:
    """The patch as it is, then with the window at every place.

    Args:
        patch: Raw pixels, uint8 or uint16, shape (C, size, size).

    Returns:
        Same type, shape (1 + places, C, size, size).
    """
    edges = _edges(patch.shape[-1])
    mean = patch.mean(axis=(1, 2), keepdims=True).astype(patch.dtype)
    places = _places(len(edges) - 1)
    versions = np.repeat(patch[None], 1 + len(places), axis=0)
    for version, (rows, columns) in zip(versions[1:], places, strict=True):
        version[
            :, edges[rows.start] : edges[rows.stop], edges[columns.start] : edges[columns.stop]
        ] = mean
    return versions


def saliency(probabilities: Probabilities, size: int) -> npt.NDArray[np.float32]:
    """The map, from the model's answers to `occlusions`.

    Args:
        probabilities: float32, shape (1 + places, classes).
        size: Height and width of the patch in pixels.

    Returns:
        float32, shape (cells, cells), where cells is `CELLS`, or ``size`` if that is smaller: the
        predicted class's mean loss of probability when a cell is hidden, in [-1, 1]; negative where
        hiding it made the model surer.
    """
    label = probabilities[0].argmax()
    lost = probabilities[0, label] - probabilities[1:, label]
    cells = len(_edges(size)) - 1
    total = np.zeros((cells, cells), np.float32)
    times = np.zeros((cells, cells), np.float32)
    for loss, (rows, columns) in zip(lost, _places(cells), strict=True):
        total[rows, columns] += loss
        times[rows, columns] += 1
    return total / times


def _edges(size: int) -> list[int]:
    """Pixels between which the cells lie, the last one included."""
    cells = min(CELLS, size)
    return [round(size * cell / cells) for cell in range(cells + 1)]


def _places(cells: int) -> list[tuple[slice, slice]]:
    """Rows and columns of cells under the window, place by place."""
    window = min(_WINDOW, cells)
    steps = [slice(start, start + window) for start in range(cells - window + 1)]
    return [(rows, columns) for rows in steps for columns in steps]
