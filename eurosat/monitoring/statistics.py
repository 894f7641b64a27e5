"""Statistics of patches, by which unusual inputs and drift show before any label is known."""

import numpy as np
import numpy.typing as npt

from eurosat.inference.backend import Patches

Statistics = npt.NDArray[np.float32]
"""Input statistics, shape (N, S); see `input_statistics`."""

_RANGE = {"uint8": 255.0, "uint16": 10_000.0}
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
    pixels = patches.astype(np.float32)
    pixels *= 1 / _RANGE[patches.dtype.name]
    flat = pixels.reshape(*pixels.shape[:2], -1)
    means = flat.mean(axis=2)
    deviations = np.sqrt(
        np.maximum(np.einsum("ncp,ncp->nc", flat, flat) / flat.shape[2] - means**2, 0)
    )
    grey = pixels.mean(axis=1)
    laplacian = (
        4 * grey[:, 1:-1, 1:-1]
        - grey[:, :-2, 1:-1]
        - grey[:, 2:, 1:-1]
        - grey[:, 1:-1, :-2]
        - grey[:, 1:-1, 2:]
    )
    sharpness = np.log(laplacian.var(axis=(1, 2)) + _SMALLEST_VARIANCE)
    blue, red = (_position(bands, names) for names in (("B", "B02"), ("R", "B04")))
    tint = means[:, blue] - means[:, red] if blue is not None and red is not None else 0 * sharpness
    columns = [means, deviations, sharpness[:, np.newaxis], tint[:, np.newaxis]]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _position(bands: tuple[str, ...], names: tuple[str, ...]) -> int | None:
    return next((bands.index(name) for name in names if name in bands), None)
