"""Saliency maps by occlusion, computed from nothing but a model's predictions.

A window moves over the patch, and the pixels in the window are replaced by the patch's mean. A
region is salient where hiding the region lowers the probability of the predicted class (Zeiler and
Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014).
"""

import numpy as np
import numpy.typing as npt

from eurosat.inference.backend import Patches, Probabilities

CELLS = 8
"""Cells per side of the map; a patch with fewer pixels per side has one cell per pixel."""

_WINDOW = 2
"""Side of the moving window in cells."""


def occlusions(patch: Patches) -> Patches:
    """Make copies of a patch: one unchanged, then one with the window at every position.

    Args:
        patch: Raw pixels, uint8 or uint16, shape (C, size, size).

    Returns:
        Same type, shape (1 + positions, C, size, size).
    """
    edges = _edges(patch.shape[-1])
    mean = patch.mean(axis=(1, 2), keepdims=True).astype(patch.dtype)
    positions = _positions(len(edges) - 1)
    versions = np.repeat(patch[None], 1 + len(positions), axis=0)
    for version, (rows, columns) in zip(versions[1:], positions, strict=True):
        version[
            :, edges[rows.start] : edges[rows.stop], edges[columns.start] : edges[columns.stop]
        ] = mean
    return versions


def saliency(probabilities: Probabilities, size: int) -> npt.NDArray[np.float32]:
    """Compute the saliency map from a model's probabilities for `occlusions`.

    Args:
        probabilities: float32, shape (1 + positions, classes).
        size: Height and width of the patch in pixels.

    Returns:
        float32, shape (cells, cells), where cells is the smaller of `CELLS` and ``size``. A value
        is the mean loss of the predicted class's probability when the cell is hidden, in [-1, 1].
        A value is negative where hiding the cell raises the probability.
    """
    label = probabilities[0].argmax()
    lost = probabilities[0, label] - probabilities[1:, label]
    cells = len(_edges(size)) - 1
    total = np.zeros((cells, cells), np.float32)
    times = np.zeros((cells, cells), np.float32)
    for loss, (rows, columns) in zip(lost, _positions(cells), strict=True):
        total[rows, columns] += loss
        times[rows, columns] += 1
    return total / times


def _edges(size: int) -> list[int]:
    """Return the pixel positions of the cells' borders, both ends included."""
    cells = min(CELLS, size)
    return [round(size * cell / cells) for cell in range(cells + 1)]


def _positions(cells: int) -> list[tuple[slice, slice]]:
    """Return the rows and columns of the cells under the window, for each of its positions."""
    window = min(_WINDOW, cells)
    steps = [slice(start, start + window) for start in range(cells - window + 1)]
    return [(rows, columns) for rows in steps for columns in steps]
