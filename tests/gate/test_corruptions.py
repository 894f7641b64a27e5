"""Corruptions keep what patches are, are repeatable, and grow with severity."""

import numpy as np
import pytest

from eurosat.bands import BANDS, RGB, render_rgb, resolve_channels
from eurosat.data.synthetic import synthetic_patch
from eurosat.gate import corruption as applying
from eurosat.gate import corruptions as registry
from eurosat.gate.corruption import SEVERITIES, Corruption
from eurosat.gate.corruptions import corruptions, register_corruption
from eurosat.labels import CLASSES

BY_NAME = {corruption.name: corruption for corruption in corruptions()}
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
        float(np.abs(corruption.apply(pixels, severity, channels) - pixels.astype(int)).mean())
        for severity in SEVERITIES
    ]


@pytest.mark.parametrize("corruption", corruptions(), ids=BY_NAME)
def test_patches_stay_patches_and_severity_is_distance(
    corruption: Corruption, data: tuple[np.ndarray, tuple]
) -> None:
    pixels, channels = data
    before = pixels.copy()
    changed = corruption.apply(pixels, 3, channels)
    assert changed.dtype == pixels.dtype
    assert changed.shape == pixels.shape
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(corruption.apply(pixels, 3, channels), changed)
    found = distances(data, corruption)
    assert found[0] > 0
    assert found == sorted(found)
    assert len(set(found)) == len(SEVERITIES)


@pytest.mark.parametrize("corruption", corruptions(), ids=BY_NAME)
def test_the_seed_changes_what_is_random_and_the_number_of_patches_at_once_nothing(
    corruption: Corruption, data: tuple[np.ndarray, tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, channels = data
    changed = corruption.apply(pixels, 2, channels)
    differs = not np.array_equal(changed, corruption.apply(pixels, 2, channels, seed=1))
    assert differs == (corruption.name in ("brightness", "noise", "band_shift"))
    monkeypatch.setattr(applying, "_CHUNK", 7)
    np.testing.assert_array_equal(corruption.apply(pixels, 2, channels), changed)


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_severities_are_1_to_5(severity: int, data: tuple[np.ndarray, tuple]) -> None:
    pixels, channels = data
    with pytest.raises(ValueError, match=f"severity {severity} is not one of 1 to 5"):
        BY_NAME["blur"].apply(pixels, severity, channels)


@pytest.mark.parametrize("name", ["brightness", "haze"])
def test_pictures_and_bands_meet_the_same_weather(name: str, bands: np.ndarray) -> None:
    dark = np.minimum(bands, 1300)  # twice as bright still fits into 8 bits
    from_bands = render_rgb(BY_NAME[name].apply(dark, 4, BANDS)).astype(int)
    from_picture = BY_NAME[name].apply(render_rgb(dark), 4, RGB).astype(int)
    assert np.abs(from_bands - from_picture).max() <= 2  # levels, of rounding twice


def test_haze_adds_most_to_blue_and_spares_the_cirrus_band() -> None:
    dark = np.full((1, 4, 4, 13), 100, np.uint16)
    hazy = BY_NAME["haze"].apply(dark, 3, BANDS)[0, 0, 0]
    added = dict(zip(NAMES, hazy.astype(int) - 100, strict=True))
    assert added["B10"] == 0
    seen = [added[name] for name in NAMES if name != "B10"]
    assert seen == sorted(seen, reverse=True)
    through = np.exp(-0.2 * (490 / 550) ** -1.3)
    assert added["B02"] == pytest.approx(100 * through + 2500 * (1 - through) - 100, abs=0.5)
    bright = np.full((1, 4, 4, 13), 6000, np.uint16)
    assert (BY_NAME["haze"].apply(bright, 3, BANDS) <= bright).all()  # haze hides what is brighter


def test_brightness_goes_both_ways() -> None:
    pixels = np.full((200, 2, 2, 13), 1000, np.uint16)
    values, counts = np.unique(BY_NAME["brightness"].apply(pixels, 5, BANDS), return_counts=True)
    assert values.tolist() == [500, 2000]
    assert 0.35 < counts[0] / counts.sum() < 0.65


def test_noise_follows_the_range_of_each_channel() -> None:
    pixels = np.full((20, 64, 64, 13), 5000, np.uint16)
    noise = BY_NAME["noise"].apply(pixels, 5, BANDS).astype(float) - 5000
    for position, band in enumerate(BANDS):
        expected = BY_NAME["noise"].amount(5) * (band.mean + 3 * band.std)
        assert noise[..., position].std() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", ["blur", "band_shift", "jpeg"])
def test_what_moves_pixels_leaves_even_ground_as_it_is(name: str) -> None:
    pixels = np.full((3, 64, 64, 13), 1234, np.uint16)
    np.testing.assert_array_equal(BY_NAME[name].apply(pixels, 5, BANDS), pixels)


def test_channels_are_shifted_their_own_way_by_the_distance() -> None:
    pixels = np.zeros((8, 64, 64, 13), np.uint16)
    pixels[:, 28:36, 28:36] = 8000
    shifted = BY_NAME["band_shift"].apply(pixels, 4, BANDS).astype(float)
    rows, columns = np.mgrid[:64, :64]
    centres = np.stack(
        [
            (shifted * axis[None, ..., None]).sum(axis=(1, 2)) / shifted.sum(axis=(1, 2))
            for axis in (rows, columns)
        ]
    )
    moved = np.hypot(*(centres - 31.5))
    np.testing.assert_allclose(moved, BY_NAME["band_shift"].amount(4), atol=0.15)
    assert np.ptp(centres[0], axis=1).min() > 1


@pytest.mark.parametrize("corruption", corruptions(), ids=BY_NAME)
def test_a_single_band_is_enough(corruption: Corruption, bands: np.ndarray) -> None:
    near_infrared = bands[..., [NAMES.index("B08")]]
    changed = corruption.apply(near_infrared, 3, resolve_channels(["B08"]))
    assert changed.shape == near_infrared.shape
    assert not np.array_equal(changed, near_infrared)


@pytest.mark.parametrize("corruption", corruptions(), ids=BY_NAME)
@pytest.mark.parametrize("chosen", [["B04"], ["B08", "B04"], ["B01", "B04", "B12"]], ids="-".join)
def test_what_happens_to_a_band_does_not_depend_on_the_other_bands(
    corruption: Corruption, chosen: list[str], bands: np.ndarray
) -> None:
    part = bands[..., [NAMES.index(name) for name in chosen]]
    changed = corruption.apply(part, 3, resolve_channels(chosen))[..., chosen.index("B04")]
    whole = corruption.apply(bands, 3, BANDS)[..., NAMES.index("B04")]
    np.testing.assert_array_equal(changed, whole)


def test_draws_depend_on_the_corruption_and_never_on_the_others(
    bands: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noise(name: str) -> Corruption:
        return Corruption(
            name, f"{name} of noise", "sigma", (1, 2, 3, 4, 5), BY_NAME["noise"].change
        )

    dew, dust = noise("dew").apply(bands, 1, BANDS), noise("dust").apply(bands, 1, BANDS)
    assert not np.array_equal(dew, dust)
    before = BY_NAME["noise"].apply(bands, 1, BANDS)
    monkeypatch.setattr(registry, "_CORRUPTIONS", [noise("dust"), *corruptions()])
    register_corruption(noise("dew"))
    found = {corruption.name: corruption for corruption in corruptions()}
    np.testing.assert_array_equal(found["dew"].apply(bands, 1, BANDS), dew)
    np.testing.assert_array_equal(found["noise"].apply(bands, 1, BANDS), before)


def test_the_draws_of_the_published_figures_stay(bands: np.ndarray) -> None:
    """docs/howto/gate.md has figures of these draws; another stream would make them untrue."""
    brighter = BY_NAME["brightness"].apply(bands, 5, BANDS)[:, 30, 30, 7] > bands[:, 30, 30, 7]
    drawn = np.random.default_rng([0, 0]).random((20, 1, 1, 1)) < 0.5
    np.testing.assert_array_equal(brighter, drawn.ravel())
    assert [corruption.stream for corruption in corruptions()][:6] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("name", "title"), [("blur", "Another"), ("motion", "blur"), ("a b", "A b"), ("", "None")]
)
def test_a_name_that_cannot_be_used_is_refused(name: str, title: str) -> None:
    with pytest.raises(ValueError, match=r"another name|cannot be named"):
        register_corruption(Corruption(name, title, "x", (1, 2, 3, 4, 5), BY_NAME["blur"].change))
    assert corruptions() == tuple(BY_NAME.values())
