"""The run card, ``run.json``: command, data, software, hardware, speed and status of a run."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from eurosat.errors import RunCardError
from eurosat.files import write_json
from eurosat.hardware import Hardware
from eurosat.provenance import GitState

RUN_CARD = "run.json"
"""Name of the run card in a run's folder."""

_LAYOUT = 1


@dataclass(frozen=True)
class RunModel:
    """The network of a run.

    Attributes:
        backbone: Name of the timm model.
        parameters: Number of weights.
    """

    backbone: str
    parameters: int


@dataclass(frozen=True)
class RunData:
    """The images of a run.

    Attributes:
        source: Short name of the source.
        bands: Names of the channels that the model sees.
        classes: Class names in label order.
        images: Number of images in all splits.
        fingerprint: SHA-256 over pixels, labels and names.
        verified: Whether the files are the published files; None if no checksum is known.
    """

    source: str
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    images: int
    fingerprint: str
    verified: bool | None = None


@dataclass(frozen=True)
class RunSplit:
    """The split of a run's images into training, validation and test images.

    Attributes:
        kind: How the split was made, such as ``"stratified"``.
        fingerprint: SHA-256 over the images of each split.
        train: Number of training images.
        val: Number of validation images.
        test: Number of test images.
        seed: Seed of a stratified split.
        fractions: Requested fractions of training, validation and test images; None for a split
            without fractions, and in a card that is older than this field.
    """

    kind: str
    fingerprint: str
    train: int
    val: int
    test: int
    seed: int | None = None
    fractions: tuple[float, ...] | None = None


@dataclass(frozen=True)
class RunPart:
    """One part of a run: what one call of the command did until it ended or was stopped.

    Attributes:
        started: Start of the part, ISO 8601, UTC.
        status: As in `RunCard`, or ``killed`` for a part that ended without a record.
        host: Name of the machine.
        git: Revision of the code; None outside of a git checkout.
        first_epoch: Number of epochs that earlier parts had trained; None if the part trained none.
        epochs: Number of epochs that the run had trained at the end of the part.
        wall_seconds: Time from the start to the end of the part in seconds. For a killed part, to
            the end of the last epoch.
        train_seconds: Time of the training steps in seconds.
        train_images: Number of images in the training steps, of all processes.
    """

    started: str | None = None
    status: str = "unknown"
    host: str | None = None
    git: GitState | None = None
    first_epoch: int | None = None
    epochs: int | None = None
    wall_seconds: float = 0.0
    train_seconds: float = 0.0
    train_images: int = 0


@dataclass(frozen=True)
class RunCard:
    """The description of a run and its status; None stands for an unknown value.

    Attributes:
        experiment: Name of the experiment.
        status: ``running``, ``finished``, ``interrupted``, ``terminated``, or ``diverged`` or
            ``failed`` with the reason after a colon.
        command: The command line.
        seed: Seed of all random numbers except the split's.
        started: Start of the run, ISO 8601, UTC.
        eurosat: Version of this package.
        git: Revision of the code; None outside of a git checkout.
        packages: Versions by package name; None for a package that is not installed.
        hardware: The machine and the devices.
        model: The network.
        wall_seconds: Time from the start to the end of the command in seconds, of all parts.
        train_seconds: Time of the training steps in seconds, of all parts.
        images_per_second: Images per second in training steps, of all processes.
        epochs: Number of trained epochs; None if the run did not train.
        best_checkpoint: Path of the best checkpoint, relative to the run's folder.
        monitor: The metric that chose the best checkpoint.
        mode: Whether the best checkpoint has the smallest or the largest ``monitor``.
        synthetic: Whether the images are generated.
        data: The images.
        split: The split of the images.
        parts: The parts of a run in order; a run that was stopped and resumed has several.
        layout: Version of this card's layout.
    """

    experiment: str | None = None
    status: str = "unknown"
    command: str | None = None
    seed: int | None = None
    started: str | None = None
    eurosat: str | None = None
    git: GitState | None = None
    packages: dict[str, str | None] = field(default_factory=dict)
    hardware: Hardware | None = None
    model: RunModel | None = None
    wall_seconds: float | None = None
    train_seconds: float | None = None
    images_per_second: float | None = None
    epochs: int | None = None
    best_checkpoint: str | None = None
    monitor: str | None = None
    mode: Literal["min", "max"] | None = None
    synthetic: bool | None = None
    data: RunData | None = None
    split: RunSplit | None = None
    parts: tuple[RunPart, ...] = ()
    layout: int = _LAYOUT

    def to_json(self) -> dict[str, Any]:
        """Give all fields of the card as JSON values."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # Tuples become lists.
        return content

    def write(self, folder: Path) -> None:
        """Write the card to a run's folder; the write is atomic."""
        write_json(folder / RUN_CARD, self.to_json())


def read_run_card(folder: Path) -> RunCard | None:
    """Read the run card of a run's folder.

    Fields that an older or an unfinished run lacks get their defaults. Fields that this version
    does not know are ignored.

    Args:
        folder: The run's folder.

    Returns:
        The card; None if the folder has none.

    Raises:
        RunCardError: The card is damaged, or its layout is newer than this version knows.
    """
    path = folder / RUN_CARD
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("the file holds no JSON object")
        layout = content.get("layout", 1)  # The first cards had no number.
        if type(layout) is int and layout > _LAYOUT:
            raise RunCardError(
                f"{path} has layout {layout}, and this version reads layouts up to {_LAYOUT}: "
                "upgrade eurosat"
            )
        return msgspec.convert(content, RunCard)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise RunCardError(
            f"{path} is damaged ({error}): restore the file, or delete the file to continue "
            "without the run's record"
        ) from error
