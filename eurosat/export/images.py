"""The images that an export is calibrated on and compared on: those of the checkpoint's run."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import yaml

from eurosat.bands import BANDS
from eurosat.data.datamodule import EuroSATDataModule
from eurosat.errors import EuroSATError, ExportError
from eurosat.export.card import ModelCard
from eurosat.export.runtime import Patches

_SETTINGS = (
    *("source", "revision", "root", "verify", "synthetic_images"),
    *("split", "split_fractions", "split_seed", "split_files"),
)


@dataclass(frozen=True)
class RunImages:
    """The data of a run, split as the run split them."""

    data: EuroSATDataModule

    def draw(
        self, part: Literal["train", "val", "test"], count: int | None
    ) -> tuple[Patches, npt.NDArray[np.int64]]:
        """Draw patches, the same ones each time, from all classes in proportion.

        Args:
            part: Part of the split.
            count: How many; all if None or more than there are.

        Returns:
            Raw patches of the model's bands, uint8 or uint16, shape (N, C, size, size), and their
            labels, int64, shape (N,).
        """
        assert self.data.store is not None
        store = self.data.store
        indices = np.random.default_rng(0).permutation(getattr(self.data.split, part))
        if count is not None and count < len(indices):
            # In the order of classes, every n-th patch: each class has its share.
            ordered = indices[np.argsort(store.labels[indices], kind="stable")]
            indices = ordered[np.linspace(0, len(ordered) - 1, count).round().astype(np.int64)]
            indices = np.random.default_rng(0).permutation(indices)
        pixels = store.images[indices]
        if not self.data.rgb:
            pixels = pixels[..., [BANDS.index(channel) for channel in self.data.channels]]
        patches: Patches = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        return patches, store.labels[indices]


def open_images(
    checkpoint: Path, card: ModelCard, source: str | None, root: str | None
) -> RunImages:
    """Open the data that a checkpoint's run was made of.

    Args:
        checkpoint: The checkpoint, whose run folder holds ``config.yaml``.
        card: Its card.
        source: Another source than the run's; needed without a run folder.
        root: Another folder for decoded data than the run's.

    Returns:
        The data, split as in the run.

    Raises:
        ExportError: The run's data cannot be found, or are not those of the run.
    """
    settings = _run_settings(checkpoint.parent.parent / "config.yaml")
    if settings is None and source is None:
        raise ExportError(
            f"the run of {checkpoint} has left no config.yaml two folders above it, so its data "
            "are unknown: leave the checkpoint in its run folder, or give --source"
        )
    settings = settings or {}
    if source is not None:
        settings |= {"source": source, "revision": None}
    if root is not None:
        settings["root"] = root
    data = EuroSATDataModule(**settings, bands=list(card.bands), classes=card.classes)
    try:
        data.prepare_data()
        data.setup("validate")
    except EuroSATError as error:
        raise ExportError(
            f"the images to compare on cannot be had ({error}); --source and --root say where "
            "the data of this run are"
        ) from error
    _check_same(data, card, chosen=source is not None)
    return RunImages(data)


def _run_settings(config: Path) -> dict[str, Any] | None:
    if not config.is_file():
        return None
    try:
        content = yaml.safe_load(config.read_text())["data"]
        return {name: content[name] for name in _SETTINGS if name in content}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ExportError(
            f"{config} is not the configuration of a run ({error}): put it right, or move it away "
            "and give --source"
        ) from error


def _check_same(data: EuroSATDataModule, card: ModelCard, *, chosen: bool) -> None:
    """Calibrating or comparing on images that the run tested on would make figures too good."""
    assert data.store is not None
    assert data.split is not None
    if card.data is None or card.split is None:
        _warn(
            "the checkpoint does not say which images it was trained and tested on: the gate may "
            "compare on others than its validation images"
        )
        return
    differing = [
        name
        for name, ours, theirs in (
            ("images", data.store.card.fingerprint, card.data["fingerprint"]),
            ("split", data.split.fingerprint, card.split["fingerprint"]),
        )
        if ours != theirs
    ]
    if differing and not chosen:
        raise ExportError(
            f"the {' and the '.join(differing)} found at {data.source} differ from the run's: "
            "give the run's own data, or --source to compare on others all the same"
        )
    if differing:
        _warn(
            f"the {' and the '.join(differing)} of {data.source} differ from the run's: what the "
            "gate calls training and validation images may have been test images of this model"
        )


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
