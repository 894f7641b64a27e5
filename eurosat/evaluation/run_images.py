"""Opening the images of a model's run, which calibrate, compare and measure the model."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from eurosat.data.settings import data_settings
from eurosat.errors import EuroSATError, ImagesError
from eurosat.inference.card import ModelCard
from eurosat.run_card import RunData, RunSplit

if TYPE_CHECKING:
    from eurosat.data.opened import OpenedData


def run_config(file: Path) -> Path:
    """Give the path of the run's configuration for a file among the run's checkpoints."""
    return file.parent.parent / "config.yaml"


def open_images(
    file: Path,
    card: ModelCard,
    source: str | None = None,
    root: str | None = None,
    *,
    split_files: str | None = None,
    exact: bool = False,
) -> "OpenedData":
    """Open the data of a model's run, with the run's split.

    In a run folder, the run's ``config.yaml`` describes the data. Outside of a run folder, the
    model's card describes the split, and ``source`` names the data.

    Args:
        file: The checkpoint, or a file that was made from the checkpoint.
        card: The card of the file.
        source: Another source than the run's source; needed outside of the run folder.
        root: Another folder for decoded data than the run's folder.
        split_files: Another folder of lists than the run's folder, if lists made the split.
        exact: Refuse other images or another split than the run's even if ``source`` is given.

    Returns:
        The data with the run's split.

    Raises:
        ImagesError: The run's data cannot be found, or the found data differ from the run's data.
    """
    from eurosat.data.datamodule import EuroSATDataModule

    settings = _run_settings(run_config(file)) or _recorded_settings(card)
    if source is not None:
        settings |= {"source": source, "revision": None}
    if root is not None:
        settings["root"] = root
    if split_files is not None:
        settings["split_files"] = split_files
    if "source" not in settings:
        raise ImagesError(
            f"{file} has no config.yaml two folders above it, so the source of its run's data is "
            "unknown: leave the file in its run folder, or give --source"
        )
    if settings.get("split") == "files" and not settings.get("split_files"):
        raise ImagesError(
            f"lists of file names made the split of {file}, and their folder is unknown: leave the "
            "file in its run folder, or give the lists' folder with --split_files"
        )
    data = EuroSATDataModule(**settings, bands=list(card.bands), classes=card.classes)
    try:
        data.prepare_data()
        data.setup("validate")
    except EuroSATError as error:
        raise ImagesError(
            f"the images of the run of {file} cannot be opened ({error}): give the data with "
            "--source and --root"
        ) from error
    _check_same(data.opened, data.source, file, card, chosen=source is not None, exact=exact)
    return data.opened


def _run_settings(config: Path) -> dict[str, Any] | None:
    if not config.is_file():
        return None
    try:
        content = yaml.safe_load(config.read_text("utf-8"))["data"]
        names = set(data_settings()) - {"bands", "classes"}  # The model's card has both.
        return {name: content[name] for name in names & set(content)}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ImagesError(
            f"{config} is not the configuration of a run ({error}): correct the file, or delete "
            "the file and give --source"
        ) from error


def _recorded_settings(card: ModelCard) -> dict[str, Any]:
    """Give the settings of the data that a card records: all but the source of observed images."""
    recorded = _recorded(card)
    if recorded is None:
        return {}
    data, split = recorded
    counts = (split.train, split.val, split.test)
    settings: dict[str, Any] = {
        "verify": False,  # Comparing the fingerprints is stricter.
        "split": split.kind,
        # Older cards lack the requested fractions; the fractions of the image counts replace them.
        "split_fractions": split.fractions or tuple(count / sum(counts) for count in counts),
    }
    if split.seed is not None:
        settings["split_seed"] = split.seed
    if card.synthetic:
        settings |= {"source": "synthetic", "synthetic_images": data.images}
    return settings


def _recorded(card: ModelCard) -> tuple[RunData, RunSplit] | None:
    """Read the data and the split of a model's run; None if the card has no data or no split.

    Raises:
        ImagesError: The card's data or split cannot be read.
    """
    if card.data is None or card.split is None:
        return None
    try:
        return msgspec.convert(card.data, RunData), msgspec.convert(card.split, RunSplit)
    except msgspec.ValidationError as error:
        raise ImagesError(
            f"the card of {card.version} does not describe its run's images ({error}): export the "
            "model again from its checkpoint"
        ) from error


def _check_same(
    data: "OpenedData", source: str, file: Path, card: ModelCard, *, chosen: bool, exact: bool
) -> None:
    """Refuse data that differ from the run's data.

    The run's test images could otherwise calibrate the model, and its accuracy would be too high.

    Raises:
        ImagesError: The patch size, the images or the split differ.
    """
    if data.patch_size != card.patch_size:
        raise ImagesError(
            f"the patches of {source} have {data.patch_size}x{data.patch_size} pixels, and {file} "
            f"takes {card.patch_size}x{card.patch_size}: give data with patches of the model's "
            "size with --source"
        )
    recorded = _recorded(card)
    if recorded is None:
        unknown = f"{file} does not say which images it was trained and tested on"
        if exact:
            raise ImagesError(
                f"{unknown}: give a checkpoint in its run folder with a run.json, or a file that "
                "was exported from such a checkpoint"
            )
        _warn(f"{unknown}: the gate may compare on other images than the validation images")
        return
    differing = [
        name
        for name, ours, theirs in (
            ("images", data.store.card.fingerprint, recorded[0].fingerprint),
            ("split", data.splits.fingerprint, recorded[1].fingerprint),
        )
        if ours != theirs
    ]
    if not differing:
        return
    named = " and the ".join(differing)
    if exact:
        raise ImagesError(
            f"the {named} found at {source} differ from the run of {file}: give the run's data "
            "with --source"
            + (", and the run's lists with --split_files" if data.splits.kind == "files" else "")
        )
    if not chosen:
        raise ImagesError(
            f"the {named} found at {source} differ from the run's: restore the run's own data, "
            "or pass --source to compare on other data"
        )
    _warn(
        f"the {named} of {source} differ from the run's: the gate's training and validation "
        "images may be test images of the model"
    )


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
