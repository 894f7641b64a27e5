"""``eurosat prepare``: get a data set ready for training, and show what it holds."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from eurosat.data.datamodule import EuroSATDataModule
from eurosat.data.splits import SPLITS, SplitKind
from eurosat.errors import SettingsError
from eurosat.labels import CLASSES


def prepare(
    *,
    source: str = "hub",
    revision: str | None = None,
    bands: str | list[str] = "rgb",
    classes: tuple[str, ...] = CLASSES,
    root: str = "data",
    verify: bool = True,
    synthetic_images: int = 4000,
    split: SplitKind = "stratified",
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    split_seed: int = 42,
    split_files: str | None = None,
    output: str | None = None,
    settings: Path | None = None,
) -> None:
    """Find, check and decode a data set, once, and show what it holds.

    `eurosat fit` does the same when it needs to; later starts open the result in under a second.

    Args:
        source: 'hub' (EuroSAT from the HF hub), a .zip archive or folder with one folder of
            images a class, a prepared store, a hub id 'owner/name', or 'synthetic'.
        revision: Commit of the hub data set; EuroSAT's own is pinned already.
        bands: 'rgb' (8 bits), 'all' (13 bands), or band names such as [B02, B03, B04, B08].
        classes: Class names in label order; your own folder names for your own data.
        root: Folder for decoded data.
        verify: Refuse a complete EuroSAT RGB data set whose files are not the published ones.
        synthetic_images: Number of patches that the source 'synthetic' generates.
        split: 'stratified' by seed, the 'source' own, 'files' (lists), or by 'longitude'.
        split_fractions: Fractions of train, validation and test.
        split_seed: Seed of the stratified split.
        split_files: Folder with train, val and test .txt lists of file names.
        output: Folder for this one store, such as one that DVC tracks, which --data.source takes;
            a folder in root if not given.
        settings: YAML file of `eurosat fit`, such as params.yaml, whose group `data` takes the
            place of all options above but output.
    """
    chosen = {name: value for name, value in locals().items() if name not in ("output", "settings")}
    if settings is not None:
        chosen = _data_settings(settings)
    data = EuroSATDataModule(**chosen)
    store = data.prepare_store(Path(output) if output else None)
    data = EuroSATDataModule(**chosen | {"source": str(store.path)})
    data.setup("fit")
    opened = data.opened
    card, images = opened.store.card, opened.store.images
    verified = {True: "the published files", False: "NOT the published files", None: "none known"}
    print(f"store         {opened.store.path}")
    print(f"images        {card.images}, {images.dtype}, {images.shape[1:]}")
    print(f"fingerprint   {card.fingerprint}")
    print(f"checksums     {verified[card.verified]}")
    print(f"split         {opened.splits.kind}, fingerprint {opened.splits.fingerprint}")
    print(f"\n{'class':<24}" + "".join(f"{split:>8}" for split in SPLITS))
    for label, name in enumerate(card.classes):
        counts = [np.sum(opened.store.labels[opened.splits[split]] == label) for split in SPLITS]
        print(f"{name:<24}" + "".join(f"{count:>8}" for count in counts))


def _data_settings(path: Path) -> dict[str, Any]:
    """Arguments of the data module that a configuration of ``eurosat fit`` has.

    Raises:
        SettingsError: The file cannot be read, or the data module does not take them.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(EuroSATDataModule, "data")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        parsed = parser.parse_object({"data": content.get("data", {})})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, ArgumentError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"--settings {path} has no usable group 'data' ({reason})") from error
    return {k: v for k, v in parsed.data.as_dict().items() if k != "augmentations"}
