"""The model card: what a model file says of itself, whatever its format."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from eurosat.bands import is_rgb, resolve_channels
from eurosat.errors import ModelFileError

CARD_KEY = "eurosat"
"""Key of the card, as JSON, in a file format's own metadata."""

_LAYOUT = 1


@dataclass(frozen=True)
class ModelCard:
    """What a model is and where it comes from.

    Attributes:
        version: Names this model among all others; answers of the service carry it.
        classes: Class names in label order.
        bands: Names of the input channels in the order the model takes them.
        patch_size: Height and width of a patch in pixels.
        backbone: Name of the timm model.
        format: Format of the file, such as ``"checkpoint"`` or ``"onnx-int8"``.
        checkpoint: SHA-256 of the checkpoint that the model was made from.
        data: Source, fingerprint and number of the images it was trained on, as in ``run.json``.
        split: The split into train, validation and test parts, as in ``run.json``.
        synthetic: Whether it was trained on generated patches; None where that is unknown.
        metrics: What the test of its run found, as in ``metrics.json``.
        git: Revision of the code that trained it, as in ``run.json``.
        export: What the parity gate found when the file was made; empty for a checkpoint.
        examples: Image files that show what the model takes, base64 by file name.
        layout: Version of this card's layout.
    """

    version: str
    classes: tuple[str, ...]
    bands: tuple[str, ...]
    patch_size: int
    backbone: str
    format: str
    checkpoint: str
    data: dict[str, Any] | None = None
    split: dict[str, Any] | None = None
    synthetic: bool | None = None
    metrics: dict[str, Any] | None = None
    git: dict[str, Any] | None = None
    export: dict[str, Any] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict, repr=False)
    layout: int = _LAYOUT

    @property
    def rgb(self) -> bool:
        """Whether patches are uint8 RGB rather than uint16 bands."""
        return is_rgb(resolve_channels(self.bands))

    @property
    def dtype(self) -> npt.DTypeLike:
        """Type of raw pixel values: uint8 for RGB, uint16 for bands."""
        return np.dtype(np.uint8 if self.rgb else np.uint16)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a patch."""
        return (len(self.bands), self.patch_size, self.patch_size)

    def to_json(self) -> str:
        """The card as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | None, file: str) -> "ModelCard":
        """Read a card.

        Args:
            text: What stands under `CARD_KEY` in the file's metadata; None if nothing does.
            file: The file's name, for error messages.

        Raises:
            ModelFileError: There is no card, or it is not of this version.
        """
        hint = "give a file made by 'eurosat export', or a checkpoint of a run"
        if text is None:
            raise ModelFileError(f"{file} carries no model card of this project: {hint}")
        try:
            content = json.loads(text)
            if content["layout"] != _LAYOUT:
                raise ValueError(f"layout version {content['layout']}, expected {_LAYOUT}")
            card = cls(**{entry.name: content[entry.name] for entry in fields(cls)})
            resolve_channels(card.bands)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFileError(
                f"{file} has a model card that cannot be read ({error}): {hint}"
            ) from error
        object.__setattr__(card, "classes", tuple(card.classes))
        object.__setattr__(card, "bands", tuple(card.bands))
        return card
