"""Pixels that are read as they are, or refused with the reason: values, types, names of bands."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from eurosat.bands import GEOTIFF_ORDER, SPECTRAL_ORDER, band_name, render_rgb, resolve_band_order
from eurosat.errors import DataSourceError
from eurosat.pixels import Patch, as_channels, decode
from tests.conftest import geotiff, shared_data

GRANULE = "B2, central wavelength 490 nm"
EARTH_ENGINE = [name.replace("B0", "B") for name in SPECTRAL_ORDER]


@pytest.fixture(scope="module")
def patch(patches: dict[str, Any]) -> np.ndarray:
    """13 bands in spectral order, uint16."""
    return np.asarray(patches["Forest_1"])


def tiff(
    pixels: np.ndarray, names: Sequence[str | None] = (), change: Any = None, **options: Any
) -> bytes:
    """Encode pixels (height, width, bands) as a TIFF without coordinates."""
    height, width, count = pixels.shape
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=width, height=height, count=count, dtype=pixels.dtype, **options
        ) as file:
            file.write(np.moveaxis(pixels, -1, 0))
            if names:
                file.descriptions = names
            if change is not None:
                change(file)
        return bytes(memory.read())


def in_order(patch: np.ndarray, order: Sequence[str]) -> np.ndarray:
    return patch[..., [SPECTRAL_ORDER.index(name) for name in order]]


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("B1", "B01"),
        ("B01", "B01"),
        ("b8a", "B8A"),
        ("B08A", "B8A"),
        ("Band 12", "B12"),
        ("band_9", "B09"),
        (GRANULE, "B02"),
        ("B8A, central wavelength 865 nm", "B8A"),
        ("S2A_B10", "B10"),
        ("B04_20m", "B04"),
        (" B11 (SWIR 1)", "B11"),
        ("B11 - SWIR", "B11"),
        ("B8/B4", None),
        ("B8-B4", None),
        ("B08 / Band 4", None),
        ("B8A mask", None),
        ("B09_QA", None),
        ("B13", None),
        ("Band 13", None),
        ("B0", None),
        ("B10A", None),
        ("B123", None),
        ("QA60", None),
        ("blue", None),
        ("", None),
    ],
)
def test_names_of_bands(description: str, expected: str | None) -> None:
    assert band_name(description) == expected


@pytest.mark.parametrize(
    "names",
    [
        EARTH_ENGINE,
        [f"{name}, central wavelength 443 nm" for name in EARTH_ENGINE],
        [name.lower() for name in SPECTRAL_ORDER],
        [f"Band {name[1:]}" for name in SPECTRAL_ORDER],
    ],
    ids=["earth-engine", "gdal", "lower", "words"],
)
@pytest.mark.parametrize("order", [SPECTRAL_ORDER, GEOTIFF_ORDER, SPECTRAL_ORDER[::-1]])
def test_bands_are_read_by_their_names(
    names: list[str], order: tuple[str, ...], patch: np.ndarray
) -> None:
    described = [names[SPECTRAL_ORDER.index(name)] for name in order]
    data = tiff(in_order(patch, order), described)
    np.testing.assert_array_equal(decode(data, "a.tif", rgb=False).pixels, patch)
    np.testing.assert_array_equal(decode(data, "a.tif", rgb=True).pixels, render_rgb(patch))
    with_order = decode(data, "a.tif", rgb=False, band_order=order)
    np.testing.assert_array_equal(with_order.pixels, patch)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([f"Band {i}" for i in range(1, 14)], "band 13 is named 'Band 13', which is no band"),
        (["coastal", *SPECTRAL_ORDER[1:]], "band 1 is named 'coastal'"),
        ([*SPECTRAL_ORDER[:12], None], "band 13 is named None"),
        ([*SPECTRAL_ORDER[:12], "B01"], "not the thirteen bands, each once"),
    ],
    ids=["numbers", "word", "missing", "twice"],
)
def test_names_that_are_not_understood_need_an_order(
    names: list[str | None], reason: str, patch: np.ndarray
) -> None:
    with pytest.raises(DataSourceError, match=rf"a.tif cannot be decoded.*{reason}.*band_order"):
        decode(tiff(patch, names), "a.tif", rgb=False)


@pytest.mark.parametrize("order", [SPECTRAL_ORDER, GEOTIFF_ORDER], ids=["spectral", "eurosat"])
@pytest.mark.parametrize("numbers", [True, False], ids=["numbers", "words"])
def test_an_order_is_taken_with_names_that_do_not_contradict_it(
    numbers: bool, order: tuple[str, ...], patch: np.ndarray
) -> None:
    names = [f"Band {i}" for i in range(1, 14)] if numbers else ["coastal", *order[1:12], None]
    data = tiff(in_order(patch, order), names)
    found = decode(data, "a.tif", rgb=False, band_order=order)
    np.testing.assert_array_equal(found.pixels, patch)


LEVEL_2A = [name for name in SPECTRAL_ORDER if name != "B10"]  # 12 bands


@pytest.mark.parametrize(
    ("names", "order", "reason"),
    [
        (["coastal", *SPECTRAL_ORDER[1:]], GEOTIFF_ORDER, "band 9 is named 'B8A'.* says B09"),
        ([*LEVEL_2A, "SCL"], SPECTRAL_ORDER, "band 11 is named 'B11'.* says B10"),
        ([*SPECTRAL_ORDER[:12], "B01"], SPECTRAL_ORDER, "band 13 is named 'B01'.* says B12"),
    ],
    ids=["word", "scene-classes", "twice"],
)
def test_an_order_that_contradicts_some_of_the_names_is_refused(
    names: list[str], order: tuple[str, ...], reason: str, patch: np.ndarray
) -> None:
    with pytest.raises(DataSourceError, match=rf"{reason}.*: correct the order, or the names"):
        decode(tiff(patch, names), "a.tif", rgb=False, band_order=order)


def test_the_name_of_a_published_file_is_no_proof_of_its_order(patches: dict[str, Any]) -> None:
    for name, patch in patches.items():
        found = decode(geotiff(patch), name, rgb=False, band_order="published").pixels
        np.testing.assert_array_equal(found, patch)
        for order in (SPECTRAL_ORDER, SPECTRAL_ORDER[::-1]):
            with pytest.raises(DataSourceError, match="not in the order of EuroSAT's file of this"):
                decode(tiff(in_order(patch, order)), name, rgb=False, band_order="published")
        named = tiff(patch, SPECTRAL_ORDER)
        found = decode(named, name, rgb=False, band_order="published").pixels
        np.testing.assert_array_equal(found, patch)


@pytest.mark.parametrize("names", [SPECTRAL_ORDER, None], ids=["named", "unnamed"])
@pytest.mark.parametrize("order", [None, SPECTRAL_ORDER], ids=["no-order", "order"])
def test_the_offset_of_newer_products_is_refused(
    names: Any, order: Any, patches: dict[str, Any]
) -> None:
    for name, patch in patches.items():
        with pytest.raises(DataSourceError, match=r"baseline 04.00 .*subtract 1,000 from the"):
            decode(tiff(patch + 1000, names), name, rgb=True, band_order=order)


def test_an_order_that_contradicts_the_names_is_refused(patch: np.ndarray) -> None:
    data = tiff(patch, SPECTRAL_ORDER)
    with pytest.raises(DataSourceError, match=r"bands are named B01.* given order of the bands is"):
        decode(data, "a.tif", rgb=False, band_order=GEOTIFF_ORDER)


def test_bands_without_names_are_eurosats_only_if_the_cirrus_band_is_where_eurosat_has_it(
    patches: dict[str, Any],
) -> None:
    for name, patch in patches.items():
        found = decode(geotiff(patch), name, rgb=False).pixels
        np.testing.assert_array_equal(found, patch)
        with pytest.raises(DataSourceError, match="bands have no names, so the order"):
            decode(tiff(patch), name, rgb=False)
        spectral = decode(tiff(patch), name, rgb=False, band_order=SPECTRAL_ORDER).pixels
        np.testing.assert_array_equal(spectral, patch)
        with pytest.raises(DataSourceError, match="bands have no names, so the order"):
            decode(geotiff(patch), name, rgb=False, band_order=())


def test_the_real_geotiffs_are_recognised_and_their_spectral_copies_are_refused() -> None:
    import zipfile

    with zipfile.ZipFile(shared_data("EuroSAT100_MS.zip")) as archive:
        for name in (name for name in archive.namelist() if name.endswith(".tif")):
            pixels = decode(archive.read(name), name, rgb=False).pixels
            published = decode(archive.read(name), name, rgb=False, band_order="published").pixels
            np.testing.assert_array_equal(published, pixels)
            with pytest.raises(DataSourceError, match="not in the order of EuroSAT's file"):
                decode(tiff(pixels), name, rgb=False, band_order="published")
            with pytest.raises(DataSourceError, match=r"baseline 04.00"):
                decode(tiff(pixels + 1000), name, rgb=False)
            with pytest.raises(DataSourceError, match="no names"):
                decode(tiff(pixels), name, rgb=False)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (None, None),
        ("eurosat", GEOTIFF_ORDER),
        ("spectral", SPECTRAL_ORDER),
        (EARTH_ENGINE[::-1], SPECTRAL_ORDER[::-1]),
    ],
)
def test_the_users_order(order: Any, expected: Any) -> None:
    assert resolve_band_order(order) == expected


@pytest.mark.parametrize("order", ["rgb", ["B01", "B02"], [*SPECTRAL_ORDER, "B01"], []])
def test_an_order_of_other_bands_is_refused(order: Any) -> None:
    with pytest.raises(ValueError, match=r"no band|not the thirteen bands"):
        resolve_band_order(order)


def white(dtype: type, count: int, value: float) -> np.ndarray:
    return np.full((8, 8, count), value, dtype)


def scaled(scale: float, offset: float) -> Any:
    def change(file: Any) -> None:
        file.scales, file.offsets = (scale,) * 13, (offset,) * 13

    return change


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(white(np.uint16, 3, 2000)), r"not 8-bit \(uint16\)"),
        (tiff(white(np.uint16, 1, 2000)), r"not 8-bit \(uint16\)"),
        (tiff(white(np.int16, 3, 200)), r"not 8-bit \(int16\)"),
        (tiff(white(np.uint32, 3, 200)), r"not 8-bit \(uint32\)"),
        (tiff(white(np.float32, 3, 0.5)), r"not 8-bit \(float32\)"),
        (tiff(white(np.float64, 4, 0.5)), r"not 8-bit \(float64\)"),
        (tiff(white(np.uint8, 2, 200)), "it has 2 bands"),
        (tiff(white(np.uint8, 3, 200), ["B2", "B3", "B4"]), "bands are B2, B3, B4, not red"),
        (tiff(white(np.uint8, 3, 200), ["Blue", "Green", "Red"]), "Blue, Green, Red, not red"),
        (tiff(white(np.uint8, 4, 200), ["B8", "B4", "B3", "B2"]), "not red, green, blue"),
        (tiff(white(np.uint8, 13, 200), SPECTRAL_ORDER), "no value above 200.* scaling to 8 bits"),
        (tiff(white(np.uint16, 13, 255), SPECTRAL_ORDER), "no value above 255"),
        (tiff(white(np.int16, 13, -9999), SPECTRAL_ORDER), "values from -9999 to -9999"),
        (tiff(white(np.int32, 13, 70_000), SPECTRAL_ORDER), "values from 70000 to 70000"),
        (tiff(white(np.float32, 13, 0.2), SPECTRAL_ORDER), "type float32, .*multiply reflectance"),
        (tiff(white(np.float64, 13, 2000), SPECTRAL_ORDER), "type float64"),
        (
            tiff(white(np.uint16, 13, 2000), SPECTRAL_ORDER, scaled(1e-4, -0.1)),
            "scale 0.0001 and the offset -0.1",
        ),
        (
            tiff(white(np.uint16, 13, 2000), SPECTRAL_ORDER, scaled(0.5, 0)),
            "scale 0.5 and the offset 0",
        ),
        (
            tiff(white(np.uint16, 13, 65_535), SPECTRAL_ORDER, nodata=65_535),
            "value for missing data, 65535",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("rgb", [True, False], ids=["rgb", "bands"])
def test_other_values_are_refused_with_the_reason(data: bytes, reason: str, rgb: bool) -> None:
    with pytest.raises(DataSourceError, match=rf"^a.tif cannot be decoded.*{reason}") as error:
        decode(data, "a.tif", rgb=rgb)
    assert "damaged" not in str(error.value)
    assert "not a JPEG" not in str(error.value)


@pytest.mark.parametrize(
    "colours", [("blue", "green", "red"), ("blue", "green", "red", "undefined")]
)
def test_colours_of_another_order_are_refused(colours: tuple[str, ...]) -> None:
    def change(file: Any) -> None:
        file.colorinterp = [rasterio.enums.ColorInterp[name] for name in colours]

    data = tiff(white(np.uint8, len(colours), 200), (), change)
    with pytest.raises(DataSourceError, match=r"its bands are blue, green, red.*, not red"):
        decode(data, "a.tif", rgb=True)


def masked(pixels: np.ndarray) -> bytes:
    """A TIFF whose internal mask says that the first row is missing."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        valid = np.ones(pixels.shape[:2], bool)
        valid[0] = False
        return tiff(pixels, SPECTRAL_ORDER, lambda file: file.write_mask(valid))


def test_pixels_that_a_mask_calls_missing_must_be_0(patch: np.ndarray) -> None:
    with pytest.raises(DataSourceError, match="its mask says that some pixels are missing"):
        decode(masked(patch), "a.tif", rgb=False)
    empty = patch.copy()
    empty[0] = 0
    np.testing.assert_array_equal(decode(masked(empty), "a.tif", rgb=False).pixels, empty)


def with_alpha(kind: str, alpha: int) -> bytes:
    """A picture whose first pixel has this opacity."""
    buffer = io.BytesIO()
    image = Image.new("RGBA", (8, 8), (10, 20, 30, 255))
    image.putpixel((0, 0), (10, 20, 30, alpha))
    if kind == "palette":
        image.convert("RGB").quantize(2).save(buffer, "PNG", transparency=bytes([alpha, alpha]))
    else:
        image.convert("LA" if kind == "grey" else "RGBA").save(
            buffer, kind if kind == "TIFF" else "PNG"
        )
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "grey", "palette"])
def test_transparent_pixels_are_missing(kind: str) -> None:
    with pytest.raises(DataSourceError, match="some of its pixels are transparent"):
        decode(with_alpha(kind, 0), "a.png", rgb=True)
    assert decode(with_alpha(kind, 200), "a.png", rgb=True).pixels.shape == (8, 8, 3)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32])
def test_digital_numbers_of_other_integer_types_keep_their_values(
    dtype: type, patch: np.ndarray
) -> None:
    data = tiff(patch.astype(dtype), SPECTRAL_ORDER)
    found = decode(data, "a.tif", rgb=False).pixels
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, patch)


def test_a_scale_of_reflectance_changes_no_digital_number(patch: np.ndarray) -> None:
    found = decode(tiff(patch, SPECTRAL_ORDER, scaled(1e-4, 0)), "a.tif", rgb=False).pixels
    np.testing.assert_array_equal(found, patch)


def png_16(mode: str) -> bytes:
    """A 16-bit PNG of grey or RGB, with or without alpha, by OpenCV."""
    import cv2

    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    _, encoded = cv2.imencode(".png", white(np.uint16, channels, 2000))
    return bytes(encoded)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_16_bit_png_is_refused(mode: str) -> None:
    with pytest.raises(DataSourceError, match=r"not 8-bit \(16 bits\)"):
        decode(png_16(mode), "a.png", rgb=True)


def test_a_tiff_of_several_images_is_refused() -> None:
    buffer = io.BytesIO()
    pages = [Image.fromarray(white(np.uint8, 3, 10 * i)) for i in range(13)]
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(DataSourceError, match="holds several images"):
        decode(buffer.getvalue(), "a.tif", rgb=True)


def test_a_tiff_that_pillow_does_not_read_is_not_called_no_image() -> None:
    data = tiff(white(np.uint8, 3, 200), compress="zstd", photometric="minisblack")
    with pytest.raises(DataSourceError, match="the TIFF is stored in a way that is not read"):
        decode(data, "a.tif", rgb=True)


@pytest.mark.parametrize("names", [(), ("B4", "B3", "B2"), ("Red", "Green", "Blue")])
def test_an_8_bit_rgb_tiff_is_read(names: tuple[str, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    data = tiff(pixels, names, photometric="rgb")
    np.testing.assert_array_equal(decode(data, "a.tif", rgb=True).pixels, pixels)


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.float32])
def test_arrays_of_three_channels_must_be_8_bit(dtype: type) -> None:
    with pytest.raises(DataSourceError, match=f"RGB pixels of the type {np.dtype(dtype)}"):
        as_channels(Patch(white(dtype, 3, 200)), "a", rgb=True)
