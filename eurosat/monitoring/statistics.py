"""Statistics of patches, by which unusual inputs and drift show before any label is known."""

import numpy as np
import numpy.typing as npt

from eurosat.inference.backend import Patches

Statistics = npt.NDArray[np.float32]
"""Input statistics, shape (N, S); see `input_statistics`."""

_RANGE = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 10_000.0}
"""Pixel value that counts as 1: white for RGB, and reflectance 1 of Sentinel-2 products."""

_SMALLEST_VARIANCE = 1e-8
"""Added to the variance of the Laplacian, whose logarithm of an even patch would be infinite."""


def statistic_names(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Name the columns of `input_statistics` for patches of some bands."""
    return (
        *(f"mean of {band}" for band in bands),
        *(f"standard deviation of {band}" for band in bands),
        "log variance of the Laplacian",
        "blue minus red",
    )


def input_statistics(patches: Patches, bands: tuple[str, ...]) -> Statistics:
    """Compute the statistics of patches.

    The columns are the mean and the standard deviation of each channel; the natural logarithm of
    the variance of the Laplacian of the patch's mean over channels, which falls with blur
    (Pech-Pacheco et al., 2000, ICPR); and the mean of the blue channel minus the mean of the red
    channel, which changes when channels are swapped. The last column is 0 without these channels.

    Args:
        patches: Raw pixels, uint8 or uint16, shape (N, C, height, width).
        bands: Names of the channels, such as ``("R", "G", "B")``.

    Returns:
        float32, shape (N, 2 C + 2). Pixel values are divided by 255 (uint8) or 10,000 (uint16).
    """
    count, channels, height, width = patches.shape
    pixels = patches.reshape(count, channels, -1).astype(np.float32)
    means = pixels @ np.full(height * width, 1 / (height * width), np.float32)
    deviations = np.sqrt(np.maximum(_mean_square(pixels) - means**2, 0))
    grey = np.full(channels, 1 / channels, np.float32) @ pixels
    grey = grey.reshape(count, height, width)
    middle = grey[:, 1:-1]
    vertical = grey[:, :-2] + grey[:, 2:]
    laplacian = vertical[:, :, 1:-1] + middle[:, :, :-2] + middle[:, :, 2:]
    laplacian -= 4 * middle[:, :, 1:-1]
    laplacian = laplacian.reshape(count, -1)
    scale = np.float32(1 / _RANGE[patches.dtype])
    variance = np.maximum(_mean_square(laplacian) - laplacian.mean(axis=1) ** 2, 0) * scale**2
    blue, red = (_position(bands, names) for names in (("B", "B02"), ("R", "B04")))
    tint = means[:, blue] - means[:, red] if blue is not None and red is not None else 0 * variance
    rest = np.stack([np.log(variance + _SMALLEST_VARIANCE), tint * scale], axis=1)
    return np.concatenate([means * scale, deviations * scale, rest], axis=1, dtype=np.float32)


def _mean_square(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Give the mean square over the last axis, faster than by a temporary array of squares."""
    squares: npt.NDArray[np.float32] = np.einsum("...p,...p->...", values, values)
    return squares / np.float32(values.shape[-1])


def _position(bands: tuple[str, ...], names: tuple[str, ...]) -> int | None:
    return next((bands.index(name) for name in names if name in bands), None)
