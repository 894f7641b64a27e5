"""Statistics of input patches."""

import numpy as np
import pytest

from eurosat.monitoring.statistics import input_statistics, statistic_names

RGB = ("R", "G", "B")


def columns(patches: np.ndarray, bands: tuple[str, ...] = RGB) -> dict[str, np.ndarray]:
    return dict(zip(statistic_names(bands), input_statistics(patches, bands).T, strict=True))


def test_the_columns_are_what_their_names_say() -> None:
    patches = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64)).astype(np.uint8)
    found = columns(patches)
    scaled = patches / 255
    np.testing.assert_allclose(found["mean of G"], scaled[:, 1].mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(
        found["standard deviation of B"], scaled[:, 2].std((1, 2)), rtol=1e-4
    )
    tint = scaled[:, 2].mean((1, 2)) - scaled[:, 0].mean((1, 2))
    np.testing.assert_allclose(found["blue minus red"], tint, atol=1e-5)


def test_blur_lowers_the_laplacian() -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64)).astype(np.uint8)
    blurred = ((sharp.astype(int) + np.roll(sharp, 1, 3) + np.roll(sharp, 1, 2)) // 3).astype("u1")
    name = "log variance of the Laplacian"
    assert columns(blurred)[name] < columns(sharp)[name] - 0.5


@pytest.mark.parametrize("value", [0, 10_000])
def test_even_patches_of_bands_have_finite_statistics(value: int) -> None:
    bands = ("B02", "B04", "B08")
    found = columns(np.full((2, 3, 64, 64), value, np.uint16), bands)
    assert all(np.isfinite(column).all() for column in found.values())
    np.testing.assert_allclose(found["mean of B08"], value / 10_000)
    assert (found["blue minus red"] == 0).all()
    only_infrared = columns(np.full((1, 1, 64, 64), value, np.uint16), ("B08",))
    assert (only_infrared["blue minus red"] == 0).all()
