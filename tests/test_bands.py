import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from eurosat.bands import BANDS, GEOTIFF_ORDER, RGB, is_rgb, render_rgb, resolve_channels
from eurosat.pixels import decode
from tests.conftest import jpeg, shared_data


def test_the_file_order_holds_every_band_once_with_b8a_last() -> None:
    assert sorted(GEOTIFF_ORDER) == sorted(band.name for band in BANDS)
    assert GEOTIFF_ORDER[-1] == "B8A"
    assert [band.name for band in BANDS].index("B8A") == 8


def test_bands_are_chosen_by_name_in_the_order_asked_for() -> None:
    channels = resolve_channels(["B08", "B04"])
    assert [channel.name for channel in channels] == ["B08", "B04"]
    assert not is_rgb(channels)
    assert resolve_channels("rgb") == RGB
    assert resolve_channels("all") == BANDS


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (["B13"], "unknown band B13"),
        ([], "none given"),
        (["B04", "B04"], "named twice"),
        (["R", "B08"], "cannot be mixed"),
        (["R", "G"], "cannot be mixed or used in part|used in part"),
    ],
)
def test_impossible_choices_are_refused(bands: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_channels(bands)


def test_the_rendition_stretches_0_to_2750_to_1_to_255() -> None:
    patch = np.zeros((1, 3, 13), dtype=np.uint16)
    red = [band.name for band in BANDS].index("B04")
    patch[0, :, red] = [0, 2750, 60_000]
    assert render_rgb(patch)[0, :, 0].tolist() == [1, 255, 255]


def test_rendering_the_real_geotiffs_gives_the_published_jpegs_byte_for_byte() -> None:
    ms = zipfile.ZipFile(shared_data("EuroSAT100_MS.zip"))
    rgb = zipfile.ZipFile(shared_data("EuroSAT_RGB.zip"))
    for name in ms.namelist():
        patch = decode(ms.read(name), name, rgb=False).pixels
        published = rgb.read(name.replace("_MS", "_RGB").replace(".tif", ".jpg"))
        assert jpeg(patch) == published
        rendered = decode(ms.read(name), name, rgb=True).pixels
        lossy = np.asarray(Image.open(io.BytesIO(published)))
        # JPEG keeps half the resolution of colour; a swapped channel would differ by far more.
        assert np.abs(rendered.astype(int) - lossy).mean() < 6


def test_the_statistics_fit_the_real_patches() -> None:
    archive = zipfile.ZipFile(shared_data("EuroSAT100_MS.zip"))
    patches = np.stack(
        [decode(archive.read(name), name, rgb=False).pixels for name in archive.namelist()]
    )
    # A hundred patches stray from 27,000; a band mistaken for another is far off.
    for position, band in enumerate(BANDS):
        sample = patches[..., position].mean(axis=(1, 2))
        error = sample.std() / np.sqrt(len(sample))
        assert abs(sample.mean() - band.mean) < 4 * error, band.name
