"""One LightningDataModule loads every source, every choice of bands and every trainer verb."""

import logging
import os
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from albumentations import BaseCompose, BasicTransform
from jsonargparse.typing import NonNegativeInt, PositiveInt
from torch.utils.data import DataLoader

from eurosat.bands import (
    band_positions,
    is_rgb,
    resolve_band_order,
    resolve_channels,
)
from eurosat.data.image_dataset import ImageFileDataset
from eurosat.data.loading import Batch, BatchSampler, PatchDataset, PatchLoader, start_worker
from eurosat.data.opened import OpenedData
from eurosat.data.sources import find_source
from eurosat.data.splits import (
    SplitKind,
    SplitName,
    check_trainable,
    make_splits,
    warn_of_losses,
)
from eurosat.data.store import Store, prepare, store_folder
from eurosat.data.trained import TrainedOn
from eurosat.data.transforms import Augmentation
from eurosat.errors import CheckpointError, DataSourceError, SettingsError, SplitError
from eurosat.folders import refuse_blank, user_path
from eurosat.labels import CLASSES
from eurosat.pixels import find_images

_log = logging.getLogger(__name__)


class EuroSATDataModule(lightning.LightningDataModule):
    """Batches of raw Sentinel-2 patches for training, validation, test and prediction."""

    def __init__(
        self,
        source: str = "hub",
        revision: str | None = None,
        bands: str | list[str] = "rgb",
        band_order: str | list[str] | None = None,
        classes: tuple[str, ...] = CLASSES,
        root: str = "data",
        verify: bool = True,
        synthetic_images: PositiveInt = 4000,
        split: SplitKind = "stratified",
        split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
        split_seed: NonNegativeInt = 42,
        split_files: str | None = None,
        augmentations: list[BasicTransform | BaseCompose] | None = None,
        batch_size: PositiveInt = 32,
        num_workers: NonNegativeInt = 0,
        images: str | list[str] | None = None,
    ) -> None:
        """Keep the settings; ``prepare_data`` reads the first file.

        Args:
            source: 'hub' (EuroSAT from the Hugging Face hub); a folder or .zip archive that
                contains a subfolder of images for each class, or folders train, val and test with
                such subfolders; a store of 'eurosat prepare'; 'owner/name' (another data set of the
                hub); or 'synthetic' (generated patches).
            revision: Commit of the hub data set, required for 'owner/name'; 'hub' has a pinned
                commit.
            bands: 'rgb' (3 bands of 8 bits), 'all' (13 bands of 16 bits), or band names such as
                [B02, B03, B04, B08].
            band_order: Order of the 13 bands in files and arrays that do not name their bands:
                'eurosat' (B8A is the last band), 'spectral' (B8A follows B08), or the 13 band
                names. If a file names its bands, the names must agree with the order. If no order
                is given, a file with unnamed bands is read in EuroSAT's order, whose tenth band is
                the cirrus band B10, in two cases: the file has a EuroSAT file name, and its tenth
                band can be B10; or the file is an image of 'eurosat predict', and its tenth band is
                as dark as B10. All other files with unnamed bands are refused.
            classes: Class names in label order; for your own data, the names of your folders.
            root: Folder for decoded data.
            verify: If a data set has the 27,000 file names of EuroSAT RGB, compare the files'
                checksums with those of the published files, and refuse the data set if a checksum
                differs. Other data sets are not compared.
            synthetic_images: Number of patches that the source 'synthetic' generates.
            split: 'stratified' assigns the patches of each class to the splits at random. 'source'
                takes the source's own train, val and test splits. 'files' reads lists of file
                names. 'longitude' sorts the patches from west to east: the first patches are the
                training split, the next patches are the validation split, and the last patches are
                the test split. 'longitude' needs GeoTIFFs, which have coordinates. 'all' puts all
                patches into the test split, for 'eurosat test --other_data true' on images that the
                model was not trained on.
            split_fractions: Fractions of training, validation and test patches for the splits
                'stratified' and 'longitude'. Each fraction must be above 0, and the sum must be 1.
            split_seed: Seed of the stratified split.
            split_files: Folder with three .txt files for the split 'files'. The name of the first
                file contains 'train', the name of the second 'val', and the name of the third
                'test'. Each line is one file name, such as Forest_12.jpg. A line may leave out the
                suffix of an image, or have the suffix of another image format. Folders may stand
                before the file name; if the last of them is a class, it must be the image's class.
                Images that no list names are left out.
            augmentations: albumentations transforms for training patches.
            batch_size: Number of patches per batch in each training process; each GPU has one
                process.
            num_workers: Number of worker processes that load batches; with 0, the main process
                loads the batches.
            images: Image files or folders for 'eurosat predict'.
        """
        super().__init__()
        refuse_blank(source=source, root=root)
        self.channels = resolve_channels(bands)
        try:
            self.band_order = resolve_band_order(band_order)
        except ValueError as error:
            raise SettingsError(
                f"--data.band_order {band_order} is no order of the 13 bands ({error}): pass "
                "'eurosat', 'spectral' or the names of the 13 bands"
            ) from error
        self.classes = tuple(classes)
        self.source = source
        self.revision = revision
        self.root = user_path(root)
        self.verify = verify
        # The parser's types of numbers would make a checkpoint unreadable.
        self.synthetic_images = int(synthetic_images)
        self.split_kind: SplitKind = split
        self.split_fractions = split_fractions
        self.split_seed = int(split_seed)
        self.split_files = user_path(split_files) if split_files else None
        self.augmentations = augmentations or []
        self.batch_size = int(batch_size)
        self.num_workers = int(num_workers)
        self.images = [images] if isinstance(images, str) else list(images or [])
        self._opened: OpenedData | None = None
        self._order_before: list[int] | None = None
        self.other_data_allowed = False
        """Whether a checkpoint of other images or of another split is accepted."""
        self.other_data = False
        """Whether the loaded checkpoint was trained on other images or on another split, at least
        in part."""

    @property
    def opened(self) -> OpenedData:
        """The store, its splits and its channels.

        Raises:
            RuntimeError: ``setup`` has not opened the data yet.
        """
        if self._opened is None:
            raise RuntimeError("the data are not open: call prepare_data() and setup() first")
        return self._opened

    @property
    def is_open(self) -> bool:
        """Whether ``setup`` has opened the data."""
        return self._opened is not None

    @property
    def rgb(self) -> bool:
        """Whether patches are uint8 RGB rather than uint16 bands."""
        return is_rgb(self.channels)

    @property
    def patch_size(self) -> int | None:
        """Height and width of the data's patches in pixels; None before ``setup`` opens them."""
        return self._opened.patch_size if self._opened else None

    def prepare_data(self) -> None:
        """Decode the source into the store once, in one process per machine.

        Raises:
            DataSourceError: The source is missing, damaged or does not have the bands.
        """
        if not self._predicting():
            self.prepare_store()

    def setup(self, stage: str) -> None:
        """Open the store and split it.

        Raises:
            SplitError: The data cannot be split as requested.
        """
        if stage == "predict" or self.is_open:
            return
        store = self.prepare_store()
        splits = make_splits(
            self.split_kind,
            store.names,
            store.labels,
            fractions=self.split_fractions,
            seed=self.split_seed,
            source_splits=store.source_splits,
            longitudes=store.longitudes,
            files=self.split_files,
            copies=store.copies,
        )
        self._opened = OpenedData(store, splits, self.channels)
        if self.trainer is None or self.trainer.is_global_zero:
            warn_of_losses(splits, store.labels, store.card.classes)

    @property
    def trained_on(self) -> TrainedOn:
        """Description of the images and their split."""
        settings = {
            "split": self.split_kind,
            "split_fractions": list(self.split_fractions),
            "split_seed": self.split_seed,
            "split_files": str(self.split_files) if self.split_files else None,
        }
        card, splits = self.opened.store.card, self.opened.splits
        return TrainedOn(
            card.source, card.fingerprint, splits.fingerprint, settings, self.other_data
        )

    @property
    def _order(self) -> list[int]:
        """Give what the batches of an epoch depend on: seed, size of a batch, processes."""
        ranks = self.trainer.world_size if self.trainer else 1
        return [_seed(), self.batch_size, ranks]

    def state_dict(self) -> dict[str, Any]:
        """Describe the images, their split and their order, for a checkpoint."""
        return self.trained_on.state_dict() | {"order": self._order} if self.is_open else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare the images and their split with those of a checkpoint.

        Raises:
            DataSourceError: They differ, and ``other_data_allowed`` is false.
        """
        if not self.is_open:  # predict reads image files
            return
        self._order_before = state_dict.get("order")  # older revisions do not save it
        trained = TrainedOn.of_state(state_dict)
        try:
            trained.refuse(self.trained_on)
        except DataSourceError as error:
            if not self.other_data_allowed:
                raise
            _log.warning("the metrics are marked, because %s", str(error).partition(":")[0])
            self.other_data = True
        if trained.other_data and not self.other_data:
            _log.warning(
                "the metrics are marked, because a part of the checkpoint's training had other "
                "images or another split (--other_data true)"
            )
            self.other_data = True

    def train_dataloader(self) -> DataLoader[Batch]:
        """Give shuffled, augmented batches of the training split.

        A training that is resumed within an epoch gets the rest of the epoch. With
        ``overfit_batches``, every epoch has the same batches.

        Raises:
            SplitError: The training split is empty, or has images of one class only.
        """
        loader = self._loader("train", shuffle=True)
        store = self.opened.store
        check_trainable(self.opened.splits.train, store.labels, store.card.classes)
        if self.trainer is not None:
            cast(BatchSampler, loader.sampler).position = self._position
        return loader

    def _position(self) -> tuple[int, int]:
        """Give the epoch of the training, and the number of its batches that are done.

        Raises:
            CheckpointError: Some batches are done, and the others would not be the missing ones.
        """
        trainer = cast(lightning.Trainer, self.trainer)
        progress = cast(Any, trainer.fit_loop.epoch_loop.batch_progress)
        done = 0 if progress.is_last_batch else progress.current.processed
        if done and self._order_before not in (None, self._order):
            seed, size, ranks = self._order_before
            raise CheckpointError(
                "the checkpoint was saved within an epoch, whose other batches depend on settings "
                f"that have changed: resume with --seed_everything {seed}, --data.batch_size "
                f"{size} and as many processes ({ranks}), or from a checkpoint of an epoch's end"
            )
        return trainer.current_epoch, done

    def val_dataloader(self) -> DataLoader[Batch]:
        """Give every validation patch once, without augmentation."""
        return self._loader("val", shuffle=False)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Give every test patch once, without augmentation."""
        return self._loader("test", shuffle=False)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Give the image files of ``images``, resized to the size of the model's patches.

        Raises:
            DataSourceError: ``images`` is empty, or a path holds no image.
        """
        if not self.images:
            raise DataSourceError(
                "there are no images to predict: pass --data.images <image file or folder>"
            )
        files = find_images(self.images)
        size = cast(Any, self.trainer).lightning_module.patch_size
        dataset = ImageFileDataset(files, self.channels, size, self.band_order)
        batch_size = min(self.batch_size, len(files))
        return DataLoader(dataset, batch_size=batch_size, num_workers=self.num_workers)

    def _predicting(self) -> bool:
        return self.trainer is not None and self.trainer.predicting

    def prepare_store(self, folder: Path | None = None) -> Store:
        """Open the store of the source; decode the source first if there is no store yet.

        Args:
            folder: Folder of the store; if not given, a folder in ``root``, named after the source.

        Raises:
            DataSourceError: The source is missing, damaged or does not have the bands, or the
                folder holds other files.
        """
        path = user_path(self.source)
        if not Store.is_store(path):
            source = find_source(
                self.source,
                rgb=self.rgb,
                classes=self.classes,
                revision=self.revision,
                synthetic_images=self.synthetic_images,
                band_order=self.band_order,
            )
            folder = folder or store_folder(source, self.root, rgb=self.rgb)
            return prepare(source, folder, rgb=self.rgb, classes=self.classes, verify=self.verify)
        if folder is not None:
            raise DataSourceError(
                f"{path} is already a store and is not copied to {folder}: leave out the other "
                "folder, or give the source of the store"
            )
        store = Store(path)
        if store.card.rgb != self.rgb or store.card.classes != self.classes:
            raise DataSourceError(
                f"the store {path} holds {'rgb' if store.card.rgb else '13 bands'} of "
                f"{', '.join(store.card.classes)}: for other bands or classes, prepare the source "
                "again"
            )
        if self.verify:
            store.check_verified()
        return store

    def _loader(self, split: SplitName, *, shuffle: bool) -> DataLoader[Batch]:
        opened = self.opened
        if len(opened.splits[split]) == 0:
            raise SplitError(
                f"the split {self.split_kind!r} leaves no patches for the {split} split: it serves "
                "'eurosat test' only; choose another --data.split"
            )
        seed = _seed()
        overfits = self.trainer is not None and bool(cast(Any, self.trainer).overfit_batches)
        sampler = BatchSampler(
            opened.splits[split],
            self.batch_size,
            shuffle=shuffle and not overfits,
            seed=seed,
            ranks=self.trainer.world_size if self.trainer else 1,
            rank=self.trainer.global_rank if self.trainer else 0,
        )
        positions = None if self.rgb else band_positions(self.channels)
        dataset = PatchDataset(
            opened.store.images,
            opened.store.labels,
            channels=positions,
            augmentation=Augmentation(self.augmentations, seed)
            if shuffle and self.augmentations
            else None,
        )
        return PatchLoader(
            dataset,
            sampler=sampler,
            batch_size=None,  # the sampler gives whole batches
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=start_worker,
        )


def _seed() -> int:
    """Give the seed of seed_everything, which Lightning keeps in a variable for all ranks."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))
