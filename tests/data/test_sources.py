"""Every published layout, and everything that can be wrong with a source."""

import io
import zipfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from eurosat.bands import GEOTIFF_ORDER, render_rgb
from eurosat.data.listing import Listing
from eurosat.data.published import verify_published_files
from eurosat.data.sources import find_source
from eurosat.errors import DataSourceError
from eurosat.labels import CLASSES, IMAGES_PER_CLASS
from tests.conftest import geotiff, jpeg, write_zip

Patches = dict[str, np.ndarray[Any, Any]]


def listing(source: str | Path, *, rgb: bool = True, **settings: Any) -> Listing:
    return find_source(str(source), rgb=rgb, **settings).list()


def test_the_rgb_archive_gives_names_labels_and_the_published_pixels(
    rgb_archive: Path, patches: Patches
) -> None:
    found = listing(rgb_archive)
    assert sorted(found.names) == sorted(f"{s.split('_')[0]}/{s}.jpg" for s in patches)
    for i, name in enumerate(found.names):
        assert CLASSES[found.labels[i]] == name.split("/")[0]
        patch, data = found.read(i)
        assert data == jpeg(patches[Path(name).stem])
        assert np.array_equal(patch.pixels, np.asarray(Image.open(io.BytesIO(data))))


def test_the_old_archive_with_its_2750_folder_reads_the_same(
    rgb_archive: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(rgb_archive) as archive:
        files = {f"2750/{name.split('/', 1)[1]}": archive.read(name) for name in archive.namelist()}
    assert listing(write_zip(tmp_path / "EuroSAT.zip", files)).names == listing(rgb_archive).names


def test_an_unpacked_folder_reads_the_same_and_ignores_what_is_no_image(
    rgb_archive: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(rgb_archive) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "EuroSAT_RGB" / "Forest" / ".DS_Store").write_bytes(b"junk")
    (tmp_path / "EuroSAT_RGB" / "README.txt").write_text("notes")
    assert listing(tmp_path / "EuroSAT_RGB").names == listing(rgb_archive).names


def test_the_geotiffs_give_bands_by_name_and_longitudes(ms_archive: Path, patches: Patches) -> None:
    found = listing(ms_archive, rgb=False)
    for i, name in enumerate(found.names):
        patch, _ = found.read(i)
        assert patch.pixels.dtype == np.uint16
        assert np.array_equal(patch.pixels, patches[Path(name).stem])
    west = found.names.index("AnnualCrop/AnnualCrop_1.tif")
    assert found.read(west)[0].longitude == pytest.approx(0.0032, abs=1e-6)


def test_the_geotiffs_can_be_rendered_to_rgb(ms_archive: Path, patches: Patches) -> None:
    found = listing(ms_archive, rgb=True)
    patch, _ = found.read(3)
    assert np.array_equal(patch.pixels, render_rgb(patches[Path(found.names[3]).stem]))


def test_split_folders_are_the_sources_own_splits(patches: Patches, tmp_path: Path) -> None:
    splits = {1: "train", 2: "Validation", 3: "test"}
    files = {
        f"data/{splits[int(stem[-1])]}/{stem.split('_')[0]}/{stem}.jpg": jpeg(patch)
        for stem, patch in patches.items()
    }
    found = listing(write_zip(tmp_path / "split.zip", files))
    expected = [{"1": "train", "2": "val", "3": "test"}[Path(n).stem[-1]] for n in found.names]
    assert found.splits == expected


def test_ones_own_class_folders(patches: Patches, tmp_path: Path) -> None:
    names = ("burnt area", "Testing ground")
    for name, stem in zip(names, ("Forest_1", "River_1"), strict=True):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / f"{stem}.jpg").write_bytes(jpeg(patches[stem]))
    found = listing(tmp_path / "mine", classes=names)
    assert found.names == ["Testing ground/River_1.jpg", "burnt area/Forest_1.jpg"]
    assert found.labels == [1, 0]
    with pytest.raises(DataSourceError, match=r"--data.classes '\[\"Testing ground\", .*\]'"):
        listing(tmp_path / "mine")


def test_a_data_set_in_the_hubs_form_is_read_with_its_own_splits_and_label_names(
    patches: Patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The hub's copies are parquet files with an image column; load_dataset reads such a folder
    # exactly as it reads a repository of the hub.
    hub_names = [name.replace("Crop", " Crop") for name in CLASSES]
    rows = {
        "image": [{"bytes": jpeg(patch), "path": None} for patch in patches.values()],
        "label": [CLASSES.index(stem.split("_")[0]) for stem in patches],
        "filename": [f"{stem}.jpg" for stem in patches],
    }
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=hub_names),
        filename=datasets.Value("string"),
    )
    folder = tmp_path / "owner" / "name" / "data"
    folder.mkdir(parents=True)
    table = datasets.Dataset.from_dict(rows, features=features)
    for split, numbers in {"train": range(20), "validation": range(20, 30)}.items():
        table.select(numbers).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = find_source("owner/name", rgb=True, revision="0" * 40)
    monkeypatch.chdir(tmp_path)
    found = source.list()
    assert found.splits == ["train"] * 20 + ["val"] * 10
    assert found.names[0] == "AnnualCrop/AnnualCrop_1.jpg"
    assert found.read(0)[1] == jpeg(patches["AnnualCrop_1"])


def hub_array(pixels: np.ndarray, folder: Path, **columns: Any) -> None:
    """Write a hub data set of one array with the label Forest."""
    features = datasets.Features(
        image=datasets.Array3D(pixels.shape, str(pixels.dtype)),
        label=datasets.ClassLabel(names=["Forest"]),
        **{name: datasets.Value("string") for name in columns},
    )
    folder.mkdir(parents=True)
    rows = {"image": [pixels], "label": [0], **{name: [v] for name, v in columns.items()}}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")


@pytest.mark.parametrize("channels_first", [True, False])
def test_hub_arrays_of_13_bands_need_an_order_unless_they_are_eurosats(
    channels_first: bool, patches: Patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    patch = patches["Forest_1"][:8, :8]  # fewer pixels than bands on a side
    in_file_order = patch[..., [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 8]]
    array = np.moveaxis(in_file_order, -1, 0) if channels_first else in_file_order
    hub_array(array, tmp_path / "owner" / "bands")
    hub_array(array, tmp_path / "owner" / "published", filename="Forest_1.tif")
    found = {
        name: [
            find_source(f"owner/{name}", rgb=False, revision="0" * 40, band_order=order)
            for order in (None, GEOTIFF_ORDER)
        ]
        for name in ("bands", "published")
    }
    hub_array(np.moveaxis(patch, -1, 0), tmp_path / "owner" / "own", filename="Forest_1.tif")
    own = find_source("owner/own", rgb=False, revision="0" * 40)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataSourceError, match="not in the order of EuroSAT's file of this name"):
        own.list().read(0)
    with pytest.raises(DataSourceError, match=r"order of the 13 bands of Forest/0+ is unknown"):
        found["bands"][0].list().read(0)
    for source in (found["bands"][1], *found["published"]):
        pixels = source.list().read(0)[0].pixels
        assert pixels.dtype == np.uint16
        np.testing.assert_array_equal(pixels, patch)


def hub_images(folder: Path, images: list[Any], labels: list[Any]) -> None:
    """Write a hub data set of encoded images with the labels Forest and River."""
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["Forest", "River"])
    )
    folder.mkdir(parents=True)
    paths = [f"{i}.jpg" for i in range(len(images))]
    rows = {"image": [i and {"bytes": i, "path": p} for i, p in zip(images, paths, strict=True)]}
    table = datasets.Dataset.from_dict(rows | {"label": labels}, features=features)
    table.to_parquet(folder / "train.parquet")


def test_hub_rows_without_a_label_or_an_image_are_left_out(
    patches: Patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """-1 is a missing label of the hub, and Python's last class."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    images = [jpeg(patches[f"Forest_{i}"]) for i in (1, 2, 3)]
    hub_images(tmp_path / "owner" / "some", [None, *images], [1, -1, 0, None])
    hub_images(tmp_path / "owner" / "none", images, [-1, -1, None])
    some, none = (
        find_source(f"owner/{name}", rgb=True, revision="0" * 40) for name in ("some", "none")
    )
    monkeypatch.chdir(tmp_path)
    found = some.list()
    assert (found.names, found.labels, found.splits) == (["Forest/2.jpg"], [1], ["train"])
    assert found.read(0)[1] == images[1]
    assert "3 of 4 rows of owner/some have no label or no image" in caplog.text
    with pytest.raises(DataSourceError, match="no row of owner/none has both an image and a label"):
        none.list()


def test_hub_columns_that_are_no_images_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, image in {"text": "a.jpg", "grey": np.zeros((8, 8), np.uint8).tolist()}.items():
        folder = tmp_path / "owner" / name
        folder.mkdir(parents=True)
        table = datasets.Dataset.from_dict({"image": [image], "label": ["Forest"]})
        table.to_parquet(folder / "train.parquet")
    text, grey = (
        find_source(f"owner/{name}", rgb=True, revision="0" * 40) for name in ("text", "grey")
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataSourceError, match="'image' of owner/text holds values of the type str"):
        text.list()
    with pytest.raises(DataSourceError, match=r"an array of the shape \(8, 8\) .*, not an image"):
        grey.list().read(0)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int64])
def test_hub_arrays_of_other_values_are_refused(
    dtype: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_array(np.full((8, 8, 3), 200, dtype), tmp_path / "owner" / f"of_{np.dtype(dtype)}")
    source = find_source(f"owner/of_{np.dtype(dtype)}", rgb=True, revision="0" * 40)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataSourceError, match=f"RGB pixels of the type {np.dtype(dtype)}"):
        source.list().read(0)


def test_synthetic_patches_depend_on_nothing_but_their_number() -> None:
    few, many = (listing("synthetic", synthetic_images=n) for n in (20, 40))
    assert few.names == many.names[:20]
    assert np.array_equal(few.read(13)[0].pixels, many.read(13)[0].pixels)


def test_the_fingerprint_follows_contents_and_settings(
    rgb_archive: Path, tmp_path: Path, patches: Patches
) -> None:
    copy = tmp_path / "elsewhere.zip"
    copy.write_bytes(rgb_archive.read_bytes())

    def fingerprint(path: Path, **settings: Any) -> str:
        return find_source(str(path), rgb=settings.pop("rgb", True), **settings).fingerprint

    assert fingerprint(copy) == fingerprint(rgb_archive)
    assert fingerprint(copy, rgb=False) != fingerprint(copy)
    assert fingerprint(copy, band_order=GEOTIFF_ORDER) != fingerprint(copy)
    assert fingerprint(copy, classes=CLASSES[::-1]) != fingerprint(copy)
    changed = {"EuroSAT_RGB/Forest/Forest_1.jpg": jpeg(patches["River_1"])}
    assert fingerprint(write_zip(tmp_path / "other.zip", changed)) != fingerprint(copy)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.zip", "no data at nowhere.zip"),
        ("./nowhere/", "no data at"),
        ("owner/name", "--data.revision"),
        ("x" * 300, r"cannot be read \(File name too long\): correct the path"),
    ],
)
def test_a_source_that_is_not_there(source: str, message: str) -> None:
    with pytest.raises(DataSourceError, match=message):
        find_source(source, rgb=True)


@pytest.mark.parametrize("source", ["hub", "owner/name"])
@pytest.mark.parametrize("revision", ["main", "v1.0", "c877bcd", "C877BCD4" * 5])
def test_only_a_commit_pins_data(revision: str, source: str) -> None:
    with pytest.raises(DataSourceError, match=r"is not a commit.*pass the 40 digits of a commit"):
        find_source(source, rgb=True, revision=revision)


def test_downloads_that_are_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataSourceError, match=r"HF_HUB_OFFLINE forbids.*EuroSAT_RGB.zip .* --data"):
        listing("hub")


def test_a_truncated_archive(rgb_archive: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(rgb_archive.read_bytes()[:-1000])
    with pytest.raises(DataSourceError, match="not a complete zip archive"):
        find_source(str(broken), rgb=True)


def test_an_archive_damaged_inside(tmp_path: Path, patches: Patches) -> None:
    path = write_zip(tmp_path / "a.zip", {"x/Forest/Forest_1.jpg": jpeg(patches["Forest_1"])})
    data = bytearray(path.read_bytes())
    data[600] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataSourceError, match=r"damaged at x/Forest/Forest_1.jpg"):
        listing(path).read(0)


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    found = listing(write_zip(tmp_path / "a.zip", {"x/Forest/Forest_1.jpg": b"not a picture"}))
    with pytest.raises(DataSourceError, match=r"Forest/Forest_1.jpg cannot be decoded"):
        found.read(0)


def test_a_truncated_geotiff(tmp_path: Path, patches: Patches) -> None:
    data = geotiff(patches["Forest_1"])
    found = listing(
        write_zip(tmp_path / "a.zip", {"x/Forest/Forest_1.tif": data[:5000]}), rgb=False
    )
    with pytest.raises(DataSourceError, match=r"Forest_1.tif cannot be decoded"):
        found.read(0)


def test_bands_that_the_source_does_not_have(rgb_archive: Path) -> None:
    with pytest.raises(DataSourceError, match=r"Sentinel-2 bands are needed"):
        listing(rgb_archive, rgb=False).read(0)


def test_two_files_of_one_name(tmp_path: Path, patches: Patches) -> None:
    data = jpeg(patches["Forest_1"])
    path = write_zip(tmp_path / "a.zip", {f"{folder}/Forest/1.jpg": data for folder in ("a", "b")})
    with pytest.raises(DataSourceError, match=r"two files named Forest/1.jpg"):
        listing(path)


def test_the_published_checksum_is_asked_only_of_a_complete_data_set() -> None:
    names = [f"{c}/{c}_{i}.jpg" for c, n in IMAGES_PER_CLASS.items() for i in range(1, n + 1)]
    assert verify_published_files(names[:-1], ["0"] * 26_999) is None
    assert verify_published_files(names, ["0"] * 27_000) is False


@pytest.mark.network
@pytest.mark.parametrize("rgb", [True, False])
def test_the_pinned_files_are_on_the_hub(rgb: bool) -> None:
    from huggingface_hub import HfApi

    from eurosat.data.published import HUB_FILES, HUB_REPOSITORY

    archive = HUB_FILES[rgb]
    (found,) = HfApi().get_paths_info(
        HUB_REPOSITORY, archive.file, repo_type="dataset", revision=archive.revision
    )
    assert found.lfs.sha256 == archive.sha256
