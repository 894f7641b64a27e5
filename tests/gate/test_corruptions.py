"""Corruptions keep what patches are, are repeatable, and grow with severity."""

import numpy as np
import pytest

from eurosat.bands import BANDS, RGB, render_rgb, resolve_channels
from eurosat.data.synthetic import synthetic_patch
from eurosat.gate import corruptions
from eurosat.gate.corruptions import AMOUNTS, CORRUPTIONS, SEVERITIES, Corruption, corrupt
from eurosat.labels import CLASSES

NAMES = [band.name for band in BANDS]


@pytest.fixture(scope="module")
def bands() -> np.ndarray:
    """20 patches of 13 bands."""
    return np.stack([synthetic_patch(name, 5, i) for name in CLASSES for i in (0, 1)])


@pytest.fixture(scope="module", params=["uint8", "uint16"])
def data(request: pytest.FixtureRequest, bands: np.ndarray) -> tuple[np.ndarray, tuple]:
    """Patches and their channels."""
    return (render_rgb(bands), RGB) if request.param == "uint8" else (bands, BANDS)


def distances(data: tuple[np.ndarray, tuple], corruption: Corruption) -> list[float]:
    """Mean absolute change of a pixel at each severity."""
    pixels, channels = data
    return [
        float(np.abs(corrupt(pixels, corruption, severity, channels) - pixels.astype(int)).mean())
        for severity in SEVERITIES
    ]


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_patches_stay_patches_and_severity_is_distance(
    corruption: Corruption, data: tuple[np.ndarray, tuple]
) -> None:
    pixels, channels = data
    before = pixels.copy()
    changed = corrupt(pixels, corruption, 3, channels)
    assert changed.dtype == pixels.dtype
    assert changed.shape == pixels.shape
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(corrupt(pixels, corruption, 3, channels), changed)
    found = distances(data, corruption)
    assert found[0] > 0
    assert found == sorted(found)
    assert len(set(found)) == len(SEVERITIES)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_the_seed_changes_what_is_random_and_the_number_of_patches_at_once_nothing(
    corruption: Corruption, data: tuple[np.ndarray, tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, channels = data
    changed = corrupt(pixels, corruption, 2, channels)
    differs = not np.array_equal(changed, corrupt(pixels, corruption, 2, channels, seed=1))
    assert differs == (corruption in ("brightness", "noise", "band_shift"))
    monkeypatch.setattr(corruptions, "_CHUNK", 7)
    np.testing.assert_array_equal(corrupt(pixels, corruption, 2, channels), changed)


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_severities_are_1_to_5(severity: int, data: tuple[np.ndarray, tuple]) -> None:
    pixels, channels = data
    with pytest.raises(ValueError, match=f"severity {severity} is not one of 1 to 5"):
        corrupt(pixels, "blur", severity, channels)


@pytest.mark.parametrize("corruption", ["brightness", "haze"])
def test_pictures_and_bands_meet_the_same_weather(
    corruption: Corruption, bands: np.ndarray
) -> None:
    dark = np.minimum(bands, 1300)  # twice as bright still fits into 8 bits
    from_bands = render_rgb(corrupt(dark, corruption, 4, BANDS)).astype(int)
    from_picture = corrupt(render_rgb(dark), corruption, 4, RGB).astype(int)
    assert np.abs(from_bands - from_picture).max() <= 2  # levels, of rounding twice


def test_haze_adds_most_to_blue_and_spares_the_cirrus_band() -> None:
    dark = np.full((1, 4, 4, 13), 100, np.uint16)
    hazy = corrupt(dark, "haze", 3, BANDS)[0, 0, 0]
    added = dict(zip(NAMES, hazy.astype(int) - 100, strict=True))
    assert added["B10"] == 0
    seen = [added[name] for name in NAMES if name != "B10"]
    assert seen == sorted(seen, reverse=True)
    through = np.exp(-0.2 * (490 / 550) ** -1.3)
    assert added["B02"] == pytest.approx(100 * through + 2500 * (1 - through) - 100, abs=0.5)
    bright = np.full((1, 4, 4, 13), 6000, np.uint16)
    assert (corrupt(bright, "haze", 3, BANDS) <= bright).all()  # haze hides what is brighter


def test_brightness_goes_both_ways() -> None:
    pixels = np.full((200, 2, 2, 13), 1000, np.uint16)
    values, counts = np.unique(corrupt(pixels, "brightness", 5, BANDS), return_counts=True)
    assert values.tolist() == [500, 2000]
    assert 0.35 < counts[0] / counts.sum() < 0.65


def test_noise_follows_the_range_of_each_channel() -> None:
    pixels = np.full((20, 64, 64, 13), 5000, np.uint16)
    noise = corrupt(pixels, "noise", 5, BANDS).astype(float) - 5000
    for position, band in enumerate(BANDS):
        expected = AMOUNTS["noise"][4] * (band.mean + 3 * band.std)
        assert noise[..., position].std() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("corruption", ["blur", "band_shift", "jpeg"])
def test_what_moves_pixels_leaves_even_ground_as_it_is(corruption: Corruption) -> None:
    pixels = np.full((3, 64, 64, 13), 1234, np.uint16)
    np.testing.assert_array_equal(corrupt(pixels, corruption, 5, BANDS), pixels)


def test_channels_are_shifted_their_own_way_by_the_distance() -> None:
    pixels = np.zeros((8, 64, 64, 13), np.uint16)
    pixels[:, 28:36, 28:36] = 8000
    shifted = corrupt(pixels, "band_shift", 4, BANDS).astype(float)
    rows, columns = np.mgrid[:64, :64]
    centres = np.stack(
        [
            (shifted * axis[None, ..., None]).sum(axis=(1, 2)) / shifted.sum(axis=(1, 2))
            for axis in (rows, columns)
        ]
    )
    moved = np.hypot(*(centres - 31.5))
    np.testing.assert_allclose(moved, AMOUNTS["band_shift"][3], atol=0.15)
    assert np.ptp(centres[0], axis=1).min() > 1


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_single_band_is_enough(corruption: Corruption, bands: np.ndarray) -> None:
    near_infrared = bands[..., [NAMES.index("B08")]]
    changed = corrupt(near_infrared, corruption, 3, resolve_channels(["B08"]))
    assert changed.shape == near_infrared.shape
    assert not np.array_equal(changed, near_infrared)
