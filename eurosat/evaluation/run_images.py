"""The images that a model is calibrated, compared and measured on: those of its run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from eurosat.data.settings import data_settings
from eurosat.errors import EuroSATError, ImagesError
from eurosat.inference.card import ModelCard
from eurosat.run_card import RunData, RunSplit

if TYPE_CHECKING:
    from eurosat.data.opened import OpenedData


def run_config(file: Path) -> Path:
    """Where the configuration of a file's run is, if the file lies among its checkpoints."""
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
    """Open the data that a model was made of, split as its run split them.

    In its run folder a file has the run's ``config.yaml`` above it. Elsewhere its card says how
    the data were split, and ``source`` where they are.

    Args:
        file: The checkpoint, or a file made of it.
        card: Its card.
        source: Another source than the run's; needed outside of the run folder.
        root: Another folder for decoded data than the run's.
        split_files: Another folder of lists than the run's, where those make the split.
        exact: Refuse other images or another split than the run's even if ``source`` is given.

    Returns:
        The data, split as in the run.

    Raises:
        ImagesError: The run's data cannot be found, or are not those of the run.
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
            f"{file} has no config.yaml two folders above it, so the place of its run's data is "
            "unknown: leave the file in its run folder, or give --source"
        )
    if settings.get("split") == "files" and not settings.get("split_files"):
        raise ImagesError(
            f"the split of {file} was made by lists of file names: leave the file in its run "
            "folder, or give the lists' folder with --split_files"
        )
    data = EuroSATDataModule(**settings, bands=list(card.bands), classes=card.classes)
    try:
        data.prepare_data()
        data.setup("validate")
    except EuroSATError as error:
        raise ImagesError(
            f"the images to compare on cannot be had ({error}); --source and --root say where "
            "the data of this run are"
        ) from error
    _check_same(data.opened, data.source, file, card, chosen=source is not None, exact=exact)
    return data.opened


def _run_settings(config: Path) -> dict[str, Any] | None:
    if not config.is_file():
        return None
    try:
        content = yaml.safe_load(config.read_text())["data"]
        names = set(data_settings()) - {"bands", "classes"}  # the model's card says these
        return {name: content[name] for name in names & set(content)}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ImagesError(
            f"{config} is not the configuration of a run ({error}): put it right, or move it away "
            "and give --source"
        ) from error


def _recorded_settings(card: ModelCard) -> dict[str, Any]:
    """Settings of the data as far as a card knows them: all but where observed images are."""
    recorded = _recorded(card)
    if recorded is None:
        return {}
    data, split = recorded
    counts = (split.train, split.val, split.test)
    settings: dict[str, Any] = {
        "verify": False,  # the fingerprint is compared, which says more
        "split": split.kind,
        # Older cards lack the fractions that were asked for: those of the images take their place.
        "split_fractions": split.fractions or tuple(count / sum(counts) for count in counts),
    }
    if split.seed is not None:
        settings["split_seed"] = split.seed
    if card.synthetic:
        settings |= {"source": "synthetic", "synthetic_images": data.images}
    return settings


def _recorded(card: ModelCard) -> tuple[RunData, RunSplit] | None:
    """The data and the split of a model's run; None where its card does not say.

    Raises:
        ImagesError: The card holds something else.
    """
    if card.data is None or card.split is None:
        return None
    try:
        return RunData.from_dict(card.data), RunSplit.from_dict(card.split)
    except ValueError as error:
        raise ImagesError(
            f"the card of {card.version} does not describe its run's images ({error}): export the "
            "model anew from its checkpoint"
        ) from error


def _check_same(
    data: "OpenedData", source: str, file: Path, card: ModelCard, *, chosen: bool, exact: bool
) -> None:
    """Calibrating or comparing on images that the run tested on would make figures too good."""
    if data.patch_size != card.patch_size:
        raise ImagesError(
            f"the patches of {source} have {data.patch_size}x{data.patch_size} pixels, and {file} "
            f"takes {card.patch_size}x{card.patch_size}: give data of the model's size with "
            "--source"
        )
    recorded = _recorded(card)
    if recorded is None:
        unknown = f"{file} does not say which images it was trained and tested on"
        if exact:
            raise ImagesError(
                f"{unknown}: give a checkpoint in its run folder, beside its run.json, or a file "
                "exported from there"
            )
        _warn(f"{unknown}: the gate may compare on others than its validation images")
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
            f"the {named} found at {source} differ from those of {file}: give the data that "
            "it was trained on with --source"
            + (", and their lists with --split_files" if data.splits.kind == "files" else "")
        )
    if not chosen:
        raise ImagesError(
            f"the {named} found at {source} differ from the run's: give the run's own data, "
            "or --source to compare on others all the same"
        )
    _warn(
        f"the {named} of {source} differ from the run's: what the gate calls training and "
        "validation images may have been test images of this model"
    )


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
