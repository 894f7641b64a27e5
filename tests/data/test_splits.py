from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurosat.data.splits import SPLITS, Splits, check_trainable, make_splits, warn_of_losses
from eurosat.errors import SplitError
from eurosat.labels import CLASSES
from tests.conftest import shared_data

LABELS = np.repeat(np.arange(5), [100, 60, 50, 40, 30])
NAMES = [f"class{label}/patch_{number}.jpg" for number, label in enumerate(LABELS)]


def split(kind: Any = "stratified", **settings: Any) -> Splits:
    return make_splits(kind, NAMES, LABELS, **settings)


def covers_everything_once(result: Splits) -> bool:
    indices = np.concatenate([result[split] for split in SPLITS])
    return sorted(indices) == list(range(len(NAMES)))


def test_stratified_keeps_the_class_proportions() -> None:
    result = split()
    assert covers_everything_once(result)
    for name, fraction in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        counts = np.bincount(LABELS[result[name]], minlength=5)
        assert counts == pytest.approx(fraction * np.bincount(LABELS), abs=1)


def test_the_seed_decides_and_the_fingerprint_tells() -> None:
    assert split(seed=1).fingerprint == split(seed=1).fingerprint
    assert split(seed=1).fingerprint != split(seed=2).fingerprint
    assert np.array_equal(split(seed=1).test, split(seed=1).test)


def test_the_sources_own_splits() -> None:
    own: list[str | None] = ["train"] * 200 + ["val"] * 40 + ["test"] * 40
    result = split("source", source_splits=own)
    assert result.val.tolist() == list(range(200, 240))
    with pytest.raises(SplitError, match="no splits of its own"):
        split("source", source_splits=[None] * 280)


def write_lists(folder: Path, lists: dict[str, list[str]]) -> Path:
    for split, names in lists.items():
        (folder / f"eurosat-{split}.txt").write_text("\n".join(names) + "\n")
    return folder


def test_lists_of_file_names_ignore_folders_and_endings(tmp_path: Path) -> None:
    lists = {"train": ["patch_0.tif", "x/patch_2"], "val": ["patch_5.jpg"], "test": ["patch_7"]}
    result = split("files", files=write_lists(tmp_path, lists))
    assert result.train.tolist() == [0, 2]
    assert result.val.tolist() == [5]
    assert result.test.tolist() == [7]


def test_the_fingerprint_is_of_names_not_positions(tmp_path: Path) -> None:
    lists = write_lists(tmp_path, {"train": ["patch_0"], "val": ["patch_5"], "test": ["patch_7"]})
    backwards = make_splits("files", NAMES[::-1], LABELS[::-1], files=lists)
    assert backwards.fingerprint == split("files", files=lists).fingerprint


def test_lines_may_have_spaces_marks_and_foreign_ends(tmp_path: Path) -> None:
    names = ["A/my patch 1.jpg", "A/W\u00e4lder.jpg", "B/caf\udce9.jpg", "B/last one.jpg"]
    lists = {
        "train": b"\xef\xbb\xbfmy patch 1.tif\r\n\r\n",
        "val": "Wa\u0308lder.jpg\n".encode(),
        "test": b"B\\caf\xe9.jpg\nlast one.jpg",
    }
    for split, text in lists.items():
        (tmp_path / f"{split}.txt").write_bytes(text)
    (tmp_path / "._train.txt").write_bytes(b"\0")
    found = make_splits("files", names, np.array([0, 0, 1, 1]), files=tmp_path)
    assert [found[split].tolist() for split in SPLITS] == [[0], [1], [2, 3]]


def test_files_of_one_name_are_told_apart_by_their_class(tmp_path: Path) -> None:
    names = ["A/1.jpg", "B/1.jpg", "A/2.jpg", "B/3.jpg"]
    lists = {"train": ["A/1.jpg", "x/2"], "val": ["y/B/1.jpg"], "test": ["3.jpg"]}
    found = make_splits("files", names, np.array([0, 1, 0, 1]), files=write_lists(tmp_path, lists))
    assert [found[split].tolist() for split in SPLITS] == [[0, 2], [1], [3]]
    write_lists(tmp_path, {"test": ["1.jpg"]})
    with pytest.raises(
        SplitError, match=r"names 1.jpg, and several images have .*, such as A/1.jpg"
    ):
        make_splits("files", names, np.array([0, 1, 0, 1]), files=tmp_path)


def files_split(names: list[str], folder: Path, **settings: Any) -> dict[str, list[str]]:
    found = make_splits("files", names, np.zeros(len(names), int), files=folder, **settings)
    return {split: [names[i] for i in found[split]] for split in SPLITS}


def test_a_name_with_a_dot_is_not_another_image(tmp_path: Path) -> None:
    names = ["A/tile_1.jpg", "A/tile_1.5.jpg", "A/tile_2.jpg", "B/tile_3.jpg"]
    lists = {"train": ["tile_1.5"], "val": ["tile_2.TIF"], "test": ["tile_3"]}
    assert files_split(names, write_lists(tmp_path, lists))["train"] == ["A/tile_1.5.jpg"]
    write_lists(tmp_path, {"train": ["tile_1.7"]})
    with pytest.raises(SplitError, match=r"names tile_1.7, which the data set does not have"):
        files_split(names, tmp_path)


def test_a_line_of_another_class_is_not_this_image(tmp_path: Path) -> None:
    names = ["A/1.jpg", "A/2.jpg", "B/3.jpg"]
    write_lists(tmp_path, {"train": ["A/1.jpg"], "val": ["tifs/2.jpg"], "test": ["3.jpg"]})
    assert files_split(names, tmp_path) == {
        "train": names[:1],
        "val": names[1:2],
        "test": names[2:],
    }
    write_lists(tmp_path, {"val": ["B/2.jpg"]})
    with pytest.raises(SplitError, match=r"names B/2.jpg, which the data set does not have"):
        files_split(names, tmp_path)


def test_lists_name_images_of_split_folders_that_share_file_names(tmp_path: Path) -> None:
    names = [f"{c}/{s}/1.jpg" for s in ("test", "train", "val") for c in "AB"]
    lists = {s: [f"{s}/{c}/1.jpg" for c in "AB"] for s in SPLITS}
    found = files_split(names, write_lists(tmp_path, lists))
    assert found == {s: [f"{c}/{s}/1.jpg" for c in "AB"] for s in SPLITS}


def test_a_list_in_utf_16(tmp_path: Path) -> None:
    """PowerShell writes the output of a command so."""
    write_lists(tmp_path, {"val": ["2"], "test": ["3"]})
    (tmp_path / "train.txt").write_bytes("W\u00e4lder.jpg\r\n1.jpg\r\n".encode("utf-16"))
    found = files_split(["A/W\u00e4lder.jpg", "A/1.jpg", "A/2.jpg", "A/3.jpg"], tmp_path)
    assert found["train"] == ["A/W\u00e4lder.jpg", "A/1.jpg"]


def test_a_copy_that_was_left_out_can_be_listed(tmp_path: Path) -> None:
    names, copies = (
        ["A/1.jpg", "A/2.jpg", "A/3.jpg"],
        {"A/1b.jpg": "A/1.jpg", "A/1c.jpg": "A/1.jpg"},
    )
    lists = write_lists(tmp_path, {"train": ["1b", "1", "1c"], "val": ["2"], "test": ["3"]})
    assert files_split(names, lists, copies=copies)["train"] == ["A/1.jpg"]
    write_lists(tmp_path, {"val": ["2", "1c"], "train": ["1b"]})
    with pytest.raises(
        SplitError, match=r"1c.jpg is listed for val, and A/1b.jpg, which has the s"
    ):
        files_split(names, lists, copies=copies)


def test_images_in_no_split_are_counted(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    names, labels = ["A/1", "A/2", "A/3", "A/4", "A/5"], np.zeros(5, int)
    write_lists(tmp_path, {"train": ["1"], "val": ["2"], "test": ["3"]})
    for kind, settings in (
        ("files", {"files": tmp_path}),
        ("source", {"source_splits": ["train", "val", "test", None, None]}),
        ("stratified", {"fractions": (0.4, 0.3, 0.3)}),
    ):
        warn_of_losses(make_splits(kind, names, labels, **settings), labels, ("A",))  # type: ignore
    assert [record.getMessage().partition(", because")[0] for record in caplog.records] == [
        "2 of 5 images are in no split and are left out"
    ] * 2


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": ["patch_0"], "val": [], "test": ["patch_1"]}, "name images in the list for val"),
        ({"train": ["patch_0,1"], "val": [], "test": []}, "one file name per line, without quotes"),
        ({"train": ["patch_0"], "val": ["patch_1"]}, "0 lists for test"),
        ({"train": ["patch_0"], "val": ["patch_0"], "test": ["patch_2"]}, "for train and for val"),
        ({"train": ["nothing"], "val": ["patch_0"], "test": ["patch_2"]}, "names nothing"),
    ],
)
def test_lists_that_are_wrong(lists: dict[str, list[str]], message: str, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=message):
        split("files", files=write_lists(tmp_path, lists))


def test_lists_that_are_missing() -> None:
    with pytest.raises(SplitError, match=r"--data\.split_files"):
        split("files")


def test_longitude_cuts_from_west_to_east() -> None:
    longitudes = np.random.default_rng(0).uniform(-10, 30, len(NAMES))
    result = split("longitude", longitudes=longitudes.tolist(), fractions=(0.6, 0.2, 0.2))
    assert covers_everything_once(result)
    assert longitudes[result.train].max() < longitudes[result.val].min()
    assert longitudes[result.val].max() < longitudes[result.test].min()
    assert len(result.test) == 56


def test_longitude_needs_coordinates() -> None:
    with pytest.raises(SplitError, match="only the GeoTIFFs have"):
        split("longitude", longitudes=[None] * len(NAMES))


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.2), (1.0, 0.0, 0.0), (1.2, -0.1, -0.1)])
def test_fractions_that_make_no_sense(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(SplitError, match="sum to 1"):
        split(fractions=fractions)


def test_a_split_that_would_be_empty() -> None:
    with pytest.raises(SplitError, match="leaves no patches for the val split"):
        make_splits("stratified", NAMES[:2], LABELS[:2])


@pytest.mark.parametrize("longitude", [None, float("inf"), float("nan")])
def test_longitude_needs_every_coordinate(longitude: float | None) -> None:
    with pytest.raises(SplitError, match="needs coordinates"):
        split("longitude", longitudes=[longitude, *[1.0] * (len(NAMES) - 1)])


def test_all_patches_can_be_tested() -> None:
    found = split("all")
    assert found.test.tolist() == list(range(len(NAMES)))
    assert len(found.train) == len(found.val) == 0
    own: list[str | None] = ["test"] * len(NAMES)
    with pytest.raises(SplitError, match=r"to test all patches, pass --data\.split all"):
        split("source", source_splits=own)


@pytest.mark.parametrize("count", range(1, 31))
def test_a_small_class_is_split_or_named(count: int, caplog: pytest.LogCaptureFixture) -> None:
    labels = np.repeat([0, 1], [200, count])
    found = make_splits("stratified", [f"x/{i}" for i in range(len(labels))], labels)
    warn_of_losses(found, labels, ("large", "small"))
    without = [name for name in SPLITS if not (labels[found[name]] == 1).any()]
    for name in SPLITS:
        warned = f"small has 0 of its {count} images in {name}" in caplog.text
        assert warned == (name in without)
    assert bool(caplog.records) == bool(without)
    if count <= 5:
        assert without
    assert "large" not in caplog.text


def test_a_class_that_a_cut_by_longitude_loses_is_named(caplog: pytest.LogCaptureFixture) -> None:
    longitudes = np.arange(200.0)
    labels = np.where(longitudes < 100, 0, 1)  # class 0 in the west
    names = [f"x/{i}" for i in range(200)]
    found = make_splits("longitude", names, labels, longitudes=longitudes.tolist())
    warn_of_losses(found, labels, ("west", "east", "nowhere"))
    assert "longitude split has too few images of some classes" in caplog.text
    assert "nowhere has no images" in caplog.text
    assert "west has 0 of its 100 images in test, where its share would be 10.0" in caplog.text
    assert "east has" not in caplog.text


def test_the_published_spatial_split_loses_pasture(caplog: pytest.LogCaptureFixture) -> None:
    folder = shared_data("splits/spatial")
    stems = [
        line.split(".")[0]
        for file in sorted(folder.glob("*.txt"))
        for line in file.read_text().split()
    ]
    names = [f"{stem.split('_')[0]}/{stem}.tif" for stem in sorted(stems)]
    labels = np.array([CLASSES.index(name.split("/")[0]) for name in names])
    found = make_splits("files", names, labels, files=folder)
    warn_of_losses(found, labels, CLASSES)
    assert "Pasture has 115 of its 2,000 images in test, where its share" in caplog.text


def test_the_real_geotiffs_split_by_longitude(tmp_path: Path) -> None:
    from eurosat.data.datamodule import EuroSATDataModule

    data = EuroSATDataModule(
        source=str(shared_data("EuroSAT100_MS.zip")), root=str(tmp_path), split="longitude"
    )
    data.setup("fit")
    longitudes = np.array(data.opened.store.longitudes, dtype=float)
    splits = data.opened.splits
    assert -12 < longitudes.min() < longitudes.max() < 35  # Europe
    assert longitudes[splits.train].max() < longitudes[splits.test].min()


def test_one_class_is_not_trained() -> None:
    labels = np.array([1, 1, 1, 0])
    check_trainable(np.array([0, 3]), labels, ["burnt", "intact"])
    with pytest.raises(SplitError, match="all training images are of the class intact, and"):
        check_trainable(np.array([0, 1, 2]), labels, ["burnt", "intact"])
