"""``eurosat prepare``: prepare a data set for training, and show its contents."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from eurosat.data.datamodule import EuroSATDataModule
from eurosat.data.settings import data_settings
from eurosat.data.splits import SPLITS
from eurosat.errors import SettingsError
from eurosat.folders import user_path


def prepare(*, output: str | None = None, settings: Path | None = None, **data: Any) -> None:
    """Download or open a data set, check and decode it, and show its contents.

    The decoded data stay in a folder, the store, which `eurosat fit` opens in about a
    second. If a
    data set has no store yet, `eurosat fit` makes the store itself. The store does not contain the
    split that the command shows: to train on this split, repeat the options --split* of the command
    as --data.split* of `eurosat fit`.

    Args:
        output: Folder of the store, such as a folder that DVC tracks; pass this folder to `eurosat
            fit` as --data.source. Without --output, the store is a folder in --root; `eurosat fit`
            finds the store if its options --data.source, --data.root, --data.bands,
            --data.band_order, --data.classes, --data.revision, --data.verify and
            --data.synthetic_images have the values that this command had.
        settings: YAML file of an experiment, such as params.yaml. The file's group `data`
            replaces all options except --output, so no other option can be given.
        **data: Settings of the data module that describe a data set.
    """
    # jsonargparse reads the data module's options and their help from this call.
    module = EuroSATDataModule(augmentations=None, batch_size=1, num_workers=0, images=None, **data)
    if settings is not None:
        _refuse_options_beside(settings, data)
        module = EuroSATDataModule(**_settings_of(settings))
    store = module.prepare_store(user_path(output) if output else None)
    module.source = str(store.path)
    module.setup("fit")
    opened = module.opened
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


def _refuse_options_beside(settings: Path, data: dict[str, Any]) -> None:
    """Raise SettingsError if a setting of the data differs from its default."""
    defaults = inspect.signature(EuroSATDataModule).parameters
    given = [f"--{name}" for name, value in data.items() if value != defaults[name].default]
    if given:
        raise SettingsError(
            f"--settings {settings} sets the data, so {', '.join(given)} would have no effect: "
            f"remove {' and '.join(given)}, or change the group 'data' of {settings}"
        )


def _settings_of(path: Path) -> dict[str, Any]:
    """Read the settings of the data from a configuration of ``eurosat fit``.

    Raises:
        SettingsError: The file cannot be read, or the data module rejects a setting.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(EuroSATDataModule, "data")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        parsed = parser.parse_object({"data": content.get("data", {})})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, ArgumentError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"--settings {path} has no usable group 'data' ({reason}): give a configuration of "
            "eurosat fit, such as params.yaml"
        ) from error
    found = parsed.data.as_dict()
    return {name: found[name] for name in data_settings()}
