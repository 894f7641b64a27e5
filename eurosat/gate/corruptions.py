"""What may happen to a patch between the sensor and the model, in five severities.

The idea, several kinds of corruption at five severities each, is that of Hendrycks and Dietterich,
"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019; kinds
and amounts are chosen for Sentinel-2. Brightness and haze act on reflectance, so that 8-bit
patches and bands meet the same weather.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from eurosat.bands import Channel, is_rgb

Pixels = npt.NDArray[Any]
"""Raw pixels, uint8 or uint16, channels last: shape (N, height, width, C)."""

_Floats = npt.NDArray[np.float32]

Corruption = Literal["brightness", "haze", "noise", "blur", "band_shift", "jpeg"]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)

SEVERITIES = (1, 2, 3, 4, 5)

AMOUNTS: dict[Corruption, tuple[float, ...]] = {
    "brightness": (1.1, 1.2, 1.4, 1.7, 2.0),
    "haze": (0.05, 0.1, 0.2, 0.4, 0.8),
    "noise": (0.005, 0.01, 0.02, 0.03, 0.05),
    "blur": (0.4, 0.6, 0.8, 1.0, 1.5),
    "band_shift": (0.25, 0.5, 1.0, 2.0, 3.0),
    "jpeg": (90, 75, 50, 25, 10),
}
"""The amount of each corruption at severities 1 to 5."""

MEANINGS: dict[Corruption, str] = {
    "brightness": "reflectance times or divided by, half of the images each",
    "haze": "optical depth at 550 nm",
    "noise": "standard deviation, as a share of each channel's range",
    "blur": "standard deviation of the point spread, in pixels",
    "band_shift": "distance that each channel is moved, in pixels",
    "jpeg": "quality",
}
"""What the numbers in `AMOUNTS` are."""

# Of a haze that nothing can be seen through, between thin aerosol and cloud; chosen.
_HAZE_REFLECTANCE = 0.25
# Optical depth goes with wavelength to the power of minus this: Ångström (1929), whose mean over
# continental aerosols this is.
_ANGSTROM_EXPONENT = 1.3
_CIRRUS = "B10"

_CHUNK = 256  # patches, so that floats take little memory


def readable(corruption: Corruption) -> str:
    """A corruption's name for people."""
    return "JPEG" if corruption == "jpeg" else corruption.replace("_", " ")


def corrupt(
    pixels: Pixels,
    corruption: Corruption,
    severity: int,
    channels: Sequence[Channel],
    *,
    seed: int = 0,
) -> Pixels:
    """Corrupt patches.

    The random part (directions, noise) depends on the seed, the corruption and a patch's position
    and is the same at every severity, so that severities differ in nothing but the amount.

    Args:
        pixels: Raw patches, uint8 (R, G, B) or uint16 (bands), shape (N, height, width, C).
        corruption: What happens to them.
        severity: How much of it, 1 to 5.
        channels: The C channels.
        seed: Seed of what is random.

    Returns:
        New patches of the same type and shape.

    Raises:
        ValueError: The severity is not one of 1 to 5.
    """
    if severity not in SEVERITIES:
        raise ValueError(f"severity {severity} is not one of 1 to 5")
    amount = AMOUNTS[corruption][severity - 1]
    generator = np.random.default_rng([seed, CORRUPTIONS.index(corruption)])
    result = np.empty_like(pixels)
    for start in range(0, len(pixels), _CHUNK):
        chunk = pixels[start : start + _CHUNK]
        match corruption:
            case "brightness":
                changed = _brighten(chunk, amount, channels, generator)
            case "haze":
                changed = _haze(chunk, amount, channels)
            case "noise":
                changed = _add_noise(chunk, amount, channels, generator)
            case "blur":
                changed = np.stack([_blurred(patch, amount) for patch in chunk])
            case "band_shift":
                changed = _shift(chunk, amount, generator)
            case "jpeg":
                changed = np.stack([_compressed(patch, int(amount)) for patch in chunk])
        result[start : start + _CHUNK] = changed
    return result


def _brighten(
    pixels: Pixels, factor: float, channels: Sequence[Channel], generator: np.random.Generator
) -> Pixels:
    """More light, or as much less, on half of the patches each: sun, slopes, calibration."""
    up = generator.random((len(pixels), 1, 1, 1)) < 0.5
    factors = np.where(up, factor, 1 / factor).astype(np.float32)
    return _raw(_reflectance(pixels, channels) * factors, pixels.dtype, channels)


def _haze(pixels: Pixels, depth: float, channels: Sequence[Channel]) -> Pixels:
    """Haze between ground and sensor: it takes light of the ground's away and adds its own.

    With the share t = exp(-depth) of the light that gets through, reflectance r becomes
    t r + (1 - t) a, where a is the haze's own (Koschmieder, 1924). The depth falls with the
    wavelength (Ångström, 1929), so haze adds most to blue. The cirrus band sees no ground and no
    haze near it: water vapour absorbs all of its light that comes from below the high clouds.
    """
    wavelengths = np.array([channel.wavelength for channel in channels], np.float32)
    depths = depth * (wavelengths / 550) ** -_ANGSTROM_EXPONENT
    depths[[channel.name == _CIRRUS for channel in channels]] = 0
    through = np.exp(-depths)
    own_light = (1 - through) * np.float32(_HAZE_REFLECTANCE)
    hazy = _reflectance(pixels, channels) * through + own_light
    return _raw(hazy, pixels.dtype, channels)


def _add_noise(
    pixels: Pixels, share: float, channels: Sequence[Channel], generator: np.random.Generator
) -> Pixels:
    """Normal noise of the detectors, independent in every pixel.

    A channel's range is its mean and three standard deviations over EuroSAT, so that the noise
    suits dim bands (cirrus) and bright ones.
    """
    ranges = np.array([channel.mean + 3 * channel.std for channel in channels], np.float32)
    noise = generator.standard_normal(pixels.shape, np.float32)
    return _rounded(pixels + noise * (share * ranges), pixels.dtype)


def _blurred(patch: Pixels, sigma: float) -> Pixels:
    """Optics, motion and resampling: a Gaussian point spread."""
    return _three_axes(cv2.GaussianBlur(patch, (0, 0), sigma), patch)


def _shift(pixels: Pixels, distance: float, generator: np.random.Generator) -> Pixels:
    """Misregistration: every channel is moved its own way.

    Sentinel-2's detectors see the same ground up to 2.6 seconds apart from band to band, and its
    bands are registered to 0.3 pixels (ESA, Sentinel-2 User Handbook, 2015); orthorectification
    with a wrong height, or tiles of different dates, leave more.
    """
    angles = generator.uniform(0, 2 * math.pi, (len(pixels), pixels.shape[-1]))
    shifted = np.empty_like(pixels)
    for patch, result, directions in zip(pixels, shifted, angles, strict=True):
        for channel, angle in enumerate(directions):
            along = (distance * math.cos(angle), distance * math.sin(angle))
            result[..., channel] = cv2.warpAffine(
                np.ascontiguousarray(patch[..., channel]),
                np.array([[1, 0, along[0]], [0, 1, along[1]]]),
                patch.shape[1::-1],
                flags=cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REFLECT_101,
            )
    return shifted


def _compressed(patch: Pixels, quality: int) -> Pixels:
    """JPEG, as thumbnails, chat programs and web services make them.

    Bands are no pictures: each is brought to 8 bits by itself, from its smallest to its largest
    value in the patch, and back.
    """
    if patch.dtype == np.uint8:
        return _three_axes(_through_jpeg(patch[..., ::-1], quality)[..., ::-1], patch)
    low = patch.min(axis=(0, 1)).astype(np.float32)
    span = np.maximum(patch.max(axis=(0, 1)) - low, 1)
    levels = np.rint((patch - low) * (255 / span)).astype(np.uint8)
    decoded = [_through_jpeg(levels[..., i], quality) for i in range(patch.shape[-1])]
    return _rounded(np.stack(decoded, axis=-1) * (span / 255) + low, patch.dtype)


def _through_jpeg(image: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """Encode and decode one grey or BGR image."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), np.uint8)


def _three_axes(image: Pixels, like: Pixels) -> Pixels:
    """OpenCV drops the axis of a single channel."""
    return image.reshape(like.shape)


def _reflectance(pixels: Pixels, channels: Sequence[Channel]) -> _Floats:
    """Raw pixels as top-of-atmosphere reflectance; see `eurosat.bands.render_rgb` for 8 bits."""
    values = pixels.astype(np.float32)
    if is_rgb(channels):
        return (values - 1) * np.float32(2750 / 254 / 10_000)
    return values * np.float32(1e-4)


def _raw(reflectance: _Floats, dtype: npt.DTypeLike, channels: Sequence[Channel]) -> Pixels:
    """The way back; what is brighter than the type can say is as bright as it can."""
    if is_rgb(channels):
        return _rounded(reflectance * np.float32(254 / 2750 * 10_000) + 1, dtype)
    return _rounded(reflectance * np.float32(1e4), dtype)


def _rounded(values: npt.NDArray[Any], dtype: npt.DTypeLike) -> Pixels:
    rounded: Pixels = np.rint(values).clip(0, np.iinfo(np.dtype(dtype)).max).astype(dtype)
    return rounded
