"""Tests of the synthetic patches: reproducible, plausible, and told apart by structure."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from eurosat.bands import BANDS, render_rgb
from eurosat.data.synthetic import SIZE, synthetic_patch
from eurosat.labels import CLASSES

PATCHES = 60  # Of each class, to fit; half as many to score.
NAMES = [band.name for band in BANDS]


def draw(seed: int, count: int) -> npt.NDArray[np.uint16]:
    """Draw ``count`` patches of every class: (classes, count, 64, 64, 13)."""
    return np.array([[synthetic_patch(name, seed, i) for i in range(count)] for name in CLASSES])


@pytest.fixture(scope="module")
def patches() -> npt.NDArray[np.uint16]:
    return draw(0, PATCHES)


@pytest.fixture(scope="module")
def other_patches() -> npt.NDArray[np.uint16]:
    return draw(1, PATCHES // 2)


@pytest.mark.parametrize("class_name", CLASSES)
def test_a_patch_depends_on_its_arguments_only(
    class_name: str, patches: npt.NDArray[np.uint16]
) -> None:
    label = CLASSES.index(class_name)
    np.random.seed(7)  # The global state must not matter.
    for number in (5, 0, 3):  # Neither must the order.
        again = synthetic_patch(class_name, 0, number)
        np.testing.assert_array_equal(again, patches[label, number])


def test_every_argument_changes_the_patch(
    patches: npt.NDArray[np.uint16], other_patches: npt.NDArray[np.uint16]
) -> None:
    everything = np.concatenate([patches, other_patches], axis=1)
    flat = everything.reshape(-1, SIZE * SIZE * len(BANDS))
    assert len({row.tobytes() for row in flat}) == len(flat)


def test_patches_look_like_files_of_the_data_set(patches: npt.NDArray[np.uint16]) -> None:
    assert patches.dtype == np.uint16
    assert patches.shape[2:] == (SIZE, SIZE, len(BANDS)) == (64, 64, 13)
    assert patches.min() >= 1
    assert patches.max() < 10_000
    assert patches[0, 0].flags.c_contiguous


def test_band_means_are_near_those_of_the_published_data(patches: npt.NDArray[np.uint16]) -> None:
    means = patches.mean(axis=(0, 1, 2, 3))
    expected = np.array([band.mean for band in BANDS])
    # A band in the wrong place would be off by far more: neighbours differ by up to 3:1.
    np.testing.assert_allclose(means, expected, rtol=0.15, atol=5)
    assert np.corrcoef(means, expected)[0, 1] > 0.98


def test_unknown_class_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown class 'Desert': choose from AnnualCrop, Forest"):
        synthetic_patch("Desert", 0, 0)


@pytest.mark.parametrize(("seed", "number"), [(-1, 0), (0, -1)])
def test_negative_numbers_are_refused(seed: int, number: int) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        synthetic_patch("Forest", seed, number)


def test_water_is_dark_and_woods_are_bright_in_the_near_infrared(
    patches: npt.NDArray[np.uint16],
) -> None:
    infrared, red = (
        np.median(patches[..., NAMES.index(name)].astype(float), axis=(1, 2, 3))
        for name in ("B08", "B04")
    )
    sea, forest = CLASSES.index("SeaLake"), CLASSES.index("Forest")
    assert infrared[sea] < 0.5 * infrared[forest]
    assert infrared[sea] < red[sea]
    assert infrared[forest] > 3 * red[forest]


def test_coarse_bands_are_smoother(patches: npt.NDArray[np.uint16]) -> None:
    """Less of a coarse band's variance lies between neighbouring pixels."""
    busy = patches[[CLASSES.index(name) for name in ("Residential", "Industrial", "PermanentCrop")]]
    values = busy.astype(float)
    steps = np.diff(values, axis=2).var(axis=(2, 3)).mean(axis=(0, 1))
    roughness = steps / values.var(axis=(2, 3)).mean(axis=(0, 1))
    # Not B10: at a dozen digital numbers, rounding makes its steps.
    bands = [(i, band) for i, band in enumerate(BANDS) if band.name != "B10"]
    by_resolution = {
        metres: [roughness[i] for i, band in bands if band.resolution == metres]
        for metres in (10, 20, 60)
    }
    assert max(by_resolution[60]) < 0.5 * min(by_resolution[20])
    assert max(by_resolution[20]) < min(by_resolution[10])


def structure(patches: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
    """Features of the RGB rendition that hold no mean colour: edges, variance and spectrum."""
    features = []
    for rgb in render_rgb(patches.reshape(-1, *patches.shape[-3:])):
        pixels = rgb.astype(np.float32)
        pixels -= pixels.mean(axis=(0, 1))
        row = []
        for size in (
            3,
            5,
            9,
            17,
            33,
        ):  # Variance by scale, its spread over the patch, its extremes.
            energy = (pixels - cv2.blur(pixels, (size, size))) ** 2
            local = cv2.blur(energy, (9, 9))
            row += [*energy.mean(axis=(0, 1)), *np.quantile(local.mean(axis=2), (0.05, 0.5, 0.95))]
        grey = pixels.mean(axis=2)
        edges = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        row += np.quantile(edges, (0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.995)).tolist()
        power = np.abs(np.fft.fftshift(np.fft.fft2(grey))) ** 2
        polar = cv2.warpPolar(power.astype(np.float32), (12, 24), (32, 32), 32, cv2.INTER_LINEAR)
        row += [*polar.mean(axis=0), *polar.max(axis=0)]
        features.append(np.log(np.array(row) + 0.1))
    return np.array(features)


def accuracy(predicted: npt.NDArray[np.intp]) -> float:
    truth = np.repeat(np.arange(len(CLASSES)), len(predicted) // len(CLASSES))
    return float((predicted == truth).mean())


@pytest.mark.slow
def test_structure_tells_the_classes_better_than_mean_colour(
    patches: npt.NDArray[np.uint16], other_patches: npt.NDArray[np.uint16]
) -> None:
    colours, other_colours = patches.mean(axis=(2, 3)), other_patches.mean(axis=(2, 3))
    scale = colours.std(axis=(0, 1))
    distances = (other_colours.reshape(-1, 1, len(BANDS)) - colours.mean(axis=1)) / scale
    by_colour = accuracy((distances**2).sum(axis=-1).argmin(axis=1))

    features, other_features = structure(patches), structure(other_patches)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    features = np.column_stack([(features - mean) / deviation, np.ones(len(features))])
    other_features = np.column_stack(
        [(other_features - mean) / deviation, np.ones(len(other_features))]
    )
    wanted = np.repeat(np.eye(len(CLASSES)), PATCHES, axis=0)
    ridge = features.T @ features + 1.0 * np.eye(features.shape[1])
    weights = np.linalg.solve(ridge, features.T @ wanted)
    by_structure = accuracy((other_features @ weights).argmax(axis=1))

    assert 0.3 < by_colour < 0.7, f"{by_colour:.3f} by mean colour"
    assert by_structure > by_colour + 0.1, (
        f"{by_structure:.3f} by structure, {by_colour:.3f} by colour"
    )


def test_rows_of_permanent_crops_are_periodic(patches: npt.NDArray[np.uint16]) -> None:
    """An orchard's or vineyard's rows are a peak in the spectrum; a wood's canopy has none."""
    red = patches[..., NAMES.index("B04")].astype(float)
    window = np.outer(np.hanning(SIZE), np.hanning(SIZE))
    power = np.abs(np.fft.fft2((red - red.mean(axis=(2, 3), keepdims=True)) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    rows = power[..., (frequency > 1 / 6.5) & (frequency < 1 / 2.5)]
    peaks = np.median(rows.max(axis=-1) / rows.mean(axis=-1), axis=1)
    others = np.delete(peaks, CLASSES.index("PermanentCrop"))
    assert peaks[CLASSES.index("PermanentCrop")] > 1.2 * others.max()
