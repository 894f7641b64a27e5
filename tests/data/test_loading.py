"""Batches: every patch once, whatever the ranks; the same augmentations, whatever the workers."""

import itertools
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from eurosat.bands import BANDS, GEOTIFF_ORDER, resolve_channels
from eurosat.data.datamodule import EuroSATDataModule
from eurosat.data.image_dataset import ImageFileDataset
from eurosat.data.loading import BatchSampler, PatchDataset
from eurosat.data.transforms import Augmentation, RandomShift
from eurosat.errors import AugmentationError, DataSourceError, SettingsError, SplitError
from eurosat.labels import CLASSES
from eurosat.pixels import find_images
from tests.conftest import geotiff, jpeg, write_zip

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(40, dtype=np.int64) % 10


@pytest.mark.parametrize(
    ("count", "batch_size", "ranks"), itertools.product([7, 16, 17, 33, 64], [1, 8, 16], [1, 2, 3])
)
def test_evaluation_visits_every_patch_exactly_once_in_equally_many_batches(
    count: int, batch_size: int, ranks: int
) -> None:
    indices = np.arange(100, 100 + count)
    batches = [
        list(BatchSampler(indices, batch_size, shuffle=False, ranks=ranks, rank=rank))
        for rank in range(ranks)
    ]
    assert len({len(own) for own in batches}) == 1  # or a collective operation would hang
    assert all(0 < len(batch) <= max(batch_size, 2) for own in batches for _, batch in own)
    seen = np.concatenate([batch for own in batches for _, batch in own])
    assert sorted(seen) == sorted(indices)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_training_gives_every_rank_its_own_full_batches(ranks: int) -> None:
    indices = np.arange(50)
    visited = []
    for rank in range(ranks):
        sampler = BatchSampler(indices, 8, shuffle=True, seed=1, ranks=ranks, rank=rank)
        sampler.set_epoch(3)
        visited.append(np.concatenate([batch for _, batch in sampler]))
        assert len(visited[-1]) == len(sampler) * 8
    together = np.concatenate(visited)
    assert len(set(together.tolist())) == len(together)
    assert 50 - len(together) < 8 * ranks


def test_the_order_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = BatchSampler(np.arange(64), 8, shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        return np.concatenate([batch for _, batch in sampler]).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_fewer_patches_than_a_batch_still_train() -> None:
    batches = list(BatchSampler(np.arange(5), 128, shuffle=True))
    assert [len(batch) for _, batch in batches] == [5]


def test_more_processes_than_patches_are_refused() -> None:
    with pytest.raises(SplitError, match="2 patches cannot be divided among 3 processes"):
        BatchSampler(np.arange(2), 1, shuffle=False, ranks=3)


def epoch_of_batches(
    workers: int, epoch: int = 2, ranks: int = 1, rank: int = 0, start: str | None = None
) -> dict[int, Any]:
    transforms = [albumentations.D4(), albumentations.RandomBrightnessContrast(p=1)]
    dataset = PatchDataset(IMAGES, LABELS, augmentation=Augmentation(transforms, seed=5))
    sampler = BatchSampler(np.arange(40), 8, shuffle=True, seed=5, ranks=ranks, rank=rank)
    sampler.set_epoch(epoch)
    loader = DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=start,
    )
    return {
        int(index): image.numpy()
        for batch in loader
        for index, image in zip(batch["index"], batch["image"], strict=True)
    }


def equal(one: dict[int, Any], other: dict[int, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[i], other[i]) for i in one)


@pytest.mark.process
def test_augmentations_are_the_same_with_any_number_of_workers() -> None:
    reference = epoch_of_batches(workers=0)
    assert equal(reference, epoch_of_batches(workers=1))
    assert equal(reference, epoch_of_batches(workers=3))
    assert equal(reference, epoch_of_batches(workers=1, start="spawn"))


def test_augmentations_are_the_same_with_any_number_of_ranks() -> None:
    both = epoch_of_batches(0, ranks=2, rank=0) | epoch_of_batches(0, ranks=2, rank=1)
    reference = epoch_of_batches(workers=0)
    assert equal({i: reference[i] for i in both}, both)


def test_augmentations_differ_between_patches_epochs_and_seeds() -> None:
    assert not equal(epoch_of_batches(0, epoch=0), epoch_of_batches(0, epoch=1))
    d4 = Augmentation([albumentations.D4()], seed=5)
    patch = IMAGES[0]
    results = {d4(patch, 0, index).tobytes() for index in range(100)}
    assert len(results) == 8  # all of the eight symmetries, and nothing else
    orientations = [d4(patch, epoch, 0).tobytes() for epoch in range(100)]
    assert len(set(orientations)) == 8


def test_draws_of_neighbouring_patches_are_independent() -> None:
    d4 = Augmentation([albumentations.D4()], seed=5)
    corner = np.zeros((4, 4, 3), dtype=np.uint8)
    corner[0, 1] = 255
    position = {d4(corner, 0, i).tobytes(): None for i in range(64)}
    numbers = [list(position).index(d4(corner, 0, i).tobytes()) for i in range(4000)]
    pairs = np.histogram2d(numbers[:-1], numbers[1:], bins=8)[0]
    expected = len(numbers) / 64
    chi_squared = ((pairs - expected) ** 2 / expected).sum()
    assert chi_squared < 130  # 63 degrees of freedom: exceeded by chance once in a million


def test_a_worker_process_is_sent_the_place_of_the_patches_not_a_copy(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    dataset = PatchDataset(np.load(tmp_path / "images.npy", mmap_mode="r"), LABELS)
    sent = pickle.dumps(dataset)
    assert len(sent) < IMAGES.nbytes / 10
    again = pickle.loads(sent)
    assert torch.equal(again[0, np.array([5])]["image"], dataset[0, np.array([5])]["image"])


def test_bands_are_gathered_in_the_order_asked_for() -> None:
    bands = np.arange(2 * 4 * 4 * 13, dtype=np.uint16).reshape(2, 4, 4, 13)
    batch = PatchDataset(bands, LABELS, channels=[8, 3])[0, np.array([1])]
    assert batch["image"].dtype == torch.uint16
    assert np.array_equal(batch["image"][0, 0].numpy(), bands[1, ..., 8])
    assert np.array_equal(batch["image"][0, 1].numpy(), bands[1, ..., 3])


def test_d4_works_on_thirteen_bands() -> None:
    bands = np.random.default_rng(0).integers(0, 9000, (64, 64, 13), dtype=np.uint16)
    moved = Augmentation([albumentations.D4()], 0)(bands, 0, 3)
    assert sorted(moved[..., 12].ravel()) == sorted(bands[..., 12].ravel())


def test_batches_are_channels_last_and_raw() -> None:
    batch = PatchDataset(IMAGES, LABELS)[0, np.array([3, 1])]
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["image"].dtype == torch.uint8
    assert batch["label"].tolist() == [3, 1]
    assert np.array_equal(batch["image"][0].permute(1, 2, 0).numpy(), IMAGES[3])


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((64, 64, 3), np.uint8), ((31, 31, 13), np.uint16), ((4, 4, 1), np.uint8)],
)
def test_a_random_shift_gives_every_shift_of_the_mirrored_patch(
    shape: tuple[int, ...], dtype: type
) -> None:
    patch = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    padded = np.pad(patch, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    shifts = {
        padded[row : row + shape[0], column : column + shape[1]].tobytes(): (row, column)
        for row, column in itertools.product(range(5), range(5))
    }
    augment = Augmentation([RandomShift(2)], seed=0)
    found = Counter(shifts[augment(patch, 0, index).tobytes()] for index in range(2500))
    assert len(found) == 25
    # 100 are expected, with a standard deviation of 10.
    assert all(60 < count < 140 for count in found.values())


def test_a_shift_has_a_distance() -> None:
    with pytest.raises(AugmentationError, match="pixels of 0 or more, got -1"):
        RandomShift(-1)


@pytest.mark.parametrize(
    ("transform", "shape", "message"),
    [
        (albumentations.Normalize(), (64, 64, 3), "leave out Normalize"),
        (albumentations.Resize(32, 32), (64, 64, 3), "resizing"),
        (albumentations.RandomCrop(64, 64), (128, 128, 3), "RandomCrop .* to 128 and 128"),
        (
            albumentations.RandomCrop(64, 64),
            (32, 32, 3),
            "RandomCrop .* to the size of the patches",
        ),
        (albumentations.ColorJitter(p=1), (64, 64, 13), "only move pixels"),
    ],
)
def test_transforms_that_do_not_fit_are_refused(
    transform: Any, shape: tuple[int, ...], message: str
) -> None:
    patch = np.zeros(shape, dtype=np.uint8 if shape[-1] == 3 else np.uint16)
    with pytest.raises(AugmentationError, match=message):
        Augmentation([transform], 0)(patch, 0, 0)


def test_image_files_are_read_for_prediction(patches: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "a.JPG").write_bytes(jpeg(patches["Forest_1"]))
    (tmp_path / "folder" / "notes.txt").write_text("no image")
    (tmp_path / "b.tif").write_bytes(geotiff(patches["River_1"]))
    paths = [str(tmp_path / "folder"), str(tmp_path / "b.tif")]
    assert [path.name for path in find_images(paths)] == ["a.JPG", "b.tif"]
    images = ImageFileDataset([tmp_path / "b.tif"], resolve_channels(["B08", "B02"]), 64)
    assert images[0]["file"] == str(tmp_path / "b.tif")
    assert np.array_equal(images[0]["image"][0].numpy(), patches["River_1"][..., 7])
    assert not images[0]["resized"]
    small = ImageFileDataset([tmp_path / "b.tif"], resolve_channels(["B08", "B02"]), 20)[0]
    assert small["image"].shape == (2, 20, 20)
    assert small["resized"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "--data.images"),
        (["nowhere.jpg"], "nowhere.jpg does not exist"),
        (["."], "holds no .jpg"),
        ([""], "path of an image is blank"),
        (["x" * 300], r"cannot be read \(File name too long\)"),
    ],
)
def test_images_that_are_not_there(
    paths: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataSourceError, match=message):
        EuroSATDataModule(images=paths).predict_dataloader()


def test_images_of_formats_that_are_not_read_are_found(tmp_path: Path) -> None:
    for name in ("a.png", "b.WEBP", "c.jp2", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = find_images([str(tmp_path)])
    assert [path.name for path in found] == ["a.png", "b.WEBP", "c.jp2"]


@pytest.mark.parametrize("name", ["source", "root"])
def test_a_blank_path_is_not_the_current_folder(name: str) -> None:
    with pytest.raises(SettingsError, match=f"--data.{name} is blank"):
        EuroSATDataModule(**{name: " "})  # type: ignore[arg-type]


def test_a_tilde_is_the_home_folder(
    rgb_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell expands no tilde after '=' and in a YAML file."""
    monkeypatch.setattr("os.path.expanduser", lambda path: str(path).replace("~", str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.zip").write_bytes(rgb_archive.read_bytes())
    (tmp_path / "1.jpg").touch()
    data = EuroSATDataModule(source="~/a.zip", root="~/root", split_files="~/lists")
    assert data.prepare_store().path.parent == tmp_path / "root"
    assert data.split_files == tmp_path / "lists"
    assert find_images(["~/1.jpg"]) == [tmp_path / "1.jpg"]


def test_a_name_that_begins_with_a_tilde_is_a_name(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("~no-such-user.jpg").touch()
    assert find_images(["~no-such-user.jpg"]) == [Path("~no-such-user.jpg")]
    with pytest.raises(DataSourceError, match="no data at ~no-such-user"):
        EuroSATDataModule(source="~no-such-user", root="~root").prepare_store()


def test_a_prepared_store_is_a_source(rgb_archive: Path, tmp_path: Path) -> None:
    first = EuroSATDataModule(source=str(rgb_archive), root=str(tmp_path))
    first.prepare_data()
    (store,) = (path for path in tmp_path.iterdir() if path.is_dir())
    again = EuroSATDataModule(source=str(store), split_fractions=(0.4, 0.3, 0.3))
    again.setup("fit")
    assert len(again.opened.store) == 30
    with pytest.raises(DataSourceError, match="prepare the source again"):
        EuroSATDataModule(source=str(store), bands="all").setup("fit")


def test_the_order_of_unnamed_bands_is_a_setting(patches: dict[str, Any], tmp_path: Path) -> None:
    files = {f"A/x{i}.tif": geotiff(patches[f"Forest_{i}"]) for i in (1, 2, 3)}
    source = {"source": str(write_zip(tmp_path / "a.zip", files)), "classes": ("A",)}
    settings = {"bands": "all", "root": str(tmp_path / "data"), "split": "all", **source}
    with pytest.raises(DataSourceError, match=r"--data\.band_order"):
        EuroSATDataModule(**settings).setup("test")
    data = EuroSATDataModule(**settings, band_order="eurosat")
    data.setup("test")
    np.testing.assert_array_equal(data.opened.store.images[0], patches["Forest_1"])
    with pytest.raises(SplitError, match=r"'all' leaves no patches for the train split"):
        data.train_dataloader()
    with pytest.raises(SettingsError, match=r"--data\.band_order B01 is no order of the 13 bands"):
        EuroSATDataModule(band_order="B01")


def test_the_order_of_unnamed_bands_counts_for_prediction(
    patches: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "a.tif").write_bytes(geotiff(patches["River_1"]))
    images = ImageFileDataset([tmp_path / "a.tif"], BANDS, 64, GEOTIFF_ORDER[::-1])
    expected = patches["River_1"][..., [BANDS.index(resolve_channels(["B8A"])[0])]]
    np.testing.assert_array_equal(images[0]["image"][0].numpy(), expected[..., 0])


def test_setup_names_the_classes_that_a_split_loses(
    rgb_archive: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fractions = (0.4, 0.3, 0.3)
    classes = (*CLASSES, "Desert")
    data = EuroSATDataModule(
        source=str(rgb_archive), root=str(tmp_path), split_fractions=fractions, classes=classes
    )
    data.setup("fit")
    assert "Desert has no images" in caplog.text


def test_data_that_are_not_open_say_what_to_call() -> None:
    data = EuroSATDataModule(source="synthetic")
    assert not data.is_open
    with pytest.raises(RuntimeError, match=r"not open: call prepare_data\(\) and setup\(\)"):
        data.train_dataloader()
