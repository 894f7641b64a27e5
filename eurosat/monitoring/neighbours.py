"""Distances to the nearest images of a reference, after whitening."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]

NEIGHBOUR = 5
"""The distance of an image is its distance to this neighbour."""

_SMALLEST_SHARE = 1e-6
"""Principal components below this fraction of the largest variance are rounding errors."""

_SHRINKAGE = 0.01
"""Added to each eigenvalue of a correlation matrix, so that rounding errors are not magnified."""


@dataclass(frozen=True)
class Whitening:
    """The transform to principal components of mean 0 and variance 1.

    Attributes:
        mean: float32, shape (F,).
        axes: float32, shape (F, D).
    """

    mean: npt.NDArray[np.float32]
    axes: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, rows: Rows, dimensions: int) -> "Whitening":
        """Fit the transform to rows (N, F), with at most ``dimensions`` components."""
        mean = rows.mean(axis=0, dtype=np.float64)
        _, values, axes = np.linalg.svd(rows - mean, full_matrices=False)
        variances = values**2 / max(len(rows) - 1, 1)
        kept = variances > _SMALLEST_SHARE * max(variances[0], 1e-30)
        kept &= np.arange(len(kept)) < dimensions
        whitened = axes[kept].T / np.sqrt(variances[kept])
        return cls(mean.astype(np.float32), whitened.astype(np.float32))

    def __call__(self, rows: Rows) -> Rows:
        """Transform rows (N, F) to float32 (N, D)."""
        return ((rows - self.mean) @ self.axes).astype(np.float32)


class Neighbours:
    """Rows of a reference, to which the distances of other rows are measured."""

    def __init__(self, rows: Rows, scaled: Callable[[Rows], Rows] | None = None) -> None:
        """Keep rows.

        Args:
            rows: The reference's rows, float32, shape (N, D).
            scaled: A transform of rows before whitening; without it the rows are whitened already.
        """
        self._scaled = scaled
        if scaled is not None:
            self._mean, self._axes = _correlation_whitening(scaled(rows))
        self._rows = self._transform(rows)
        self._squares = np.einsum("nd,nd->n", self._rows, self._rows)

    def _transform(self, rows: Rows) -> npt.NDArray[Any]:
        if self._scaled is None:
            return rows
        transformed: npt.NDArray[Any] = (self._scaled(rows) - self._mean) @ self._axes
        return transformed

    def distances(
        self, rows: Rows, own: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.float32]:
        """Give the distance of each row to its fifth nearest row of the reference, shape (N,).

        Args:
            rows: float32, shape (N, D).
            own: For each row its position in the reference, which is left out; positions past the
                end belong to no row of the reference.
        """
        transformed = self._transform(rows)
        squares = np.einsum("nd,nd->n", transformed, transformed)[:, np.newaxis]
        squares = squares + self._squares - 2 * transformed @ self._rows.T
        if own is not None:
            inside = own < len(self._rows)
            squares[np.flatnonzero(inside), own[inside]] = np.inf
        usable = len(self._rows) - (own is not None)
        neighbour = min(NEIGHBOUR, usable) - 1
        nearest = np.partition(squares, neighbour, axis=1)[:, neighbour]
        return np.sqrt(np.maximum(nearest, 0)).astype(np.float32)


def _correlation_whitening(rows: Rows) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Fit a whitening that gives every column the same weight; returns mean and axes."""
    mean = rows.mean(axis=0)
    deviations = rows.std(axis=0) + 1e-6
    standard = (rows - mean) / deviations
    values, vectors = np.linalg.eigh(standard.T @ standard / len(rows))
    axes = vectors / np.sqrt(np.maximum(values, 0) + _SHRINKAGE) / deviations[:, np.newaxis]
    return mean, axes.astype(np.float32)
