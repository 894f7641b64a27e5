from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurosat.data.splits import SPLITS, Splits, make_splits
from eurosat.errors import SplitError
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


@pytest.mark.parametrize(
    ("lists", "message"),
    [
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
