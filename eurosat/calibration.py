"""The expected calibration error, which metrics, intervals and the reliability diagram use."""

import numpy as np
import numpy.typing as npt

BINS = 15
"""Number of equal-width bins of confidence, the number of Guo et al."""


def confidence_bins(
    confidence: npt.NDArray[np.floating], bins: int = BINS
) -> npt.NDArray[np.int64]:
    """Sort confidences into bins as torchmetrics does.

    Args:
        confidence: Probability of the predicted class, in [0, 1], shape (N,).
        bins: Number of equal-width bins on [0, 1].

    Returns:
        Number of the bin of each confidence, int64, shape (N,), from 0. A confidence of exactly 1
        is in the additional bin number ``bins``.
    """
    edges = np.linspace(0, 1, bins + 1, dtype=np.float32)
    return np.searchsorted(edges, confidence.astype(np.float32), side="right") - 1


class CalibrationError:
    """The expected calibration error (ECE) of images, or of any resample of the images.

    The ECE is the mean gap between confidence and accuracy, weighted by the images in each bin of
    confidence: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. It equals
    torchmetrics' ``MulticlassCalibrationError(norm="l1")``.
    """

    def __init__(
        self,
        confidence: npt.NDArray[np.floating],
        correct: npt.NDArray[np.bool_],
        bins: int = BINS,
    ) -> None:
        """Sort the images into bins.

        Args:
            confidence: Probability of the predicted class, in [0, 1], shape (N,).
            correct: Whether the prediction is correct, shape (N,).
            bins: Number of equal-width bins on [0, 1].
        """
        self._gaps: npt.NDArray[np.float64] = correct - confidence.astype(np.float64)
        self._bins = confidence_bins(confidence, bins)
        self._count = bins + 1  # The additional bin holds the confidences of exactly 1.

    def overall(self) -> float:
        """Compute the error of all images, 0 to 1; 0 if there are no images."""
        if not len(self._gaps):
            return 0.0
        return float(self.of_rows(np.arange(len(self._gaps))[None])[0])

    def of_rows(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Compute the error of each row of images.

        Args:
            indices: Indices of images, int64, shape (R, M) with M of 1 or more.

        Returns:
            One error per row, float64, shape (R,).
        """
        rows = np.arange(len(indices))[:, None] * self._count
        sums = np.bincount(
            (self._bins[indices] + rows).ravel(),
            weights=self._gaps[indices].ravel(),
            minlength=len(indices) * self._count,
        )
        error: npt.NDArray[np.float64]
        error = np.abs(sums.reshape(len(indices), -1)).sum(axis=1) / indices.shape[1]
        return error
