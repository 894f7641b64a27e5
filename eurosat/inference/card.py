"""The model card, which describes a model in the metadata of its file, in every format."""

import base64
import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from eurosat.bands import is_rgb, resolve_channels
from eurosat.errors import ModelFileError
from eurosat.plain_text import plain

CARD_KEY = "eurosat"
"""Key of the card, as JSON, in a file format's own metadata."""

_LAYOUT = 1
"""Number of the card's layout; the number grows when a field changes its meaning.

A new field does not change the number.
"""


_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
_Names = Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1, max_length=10_000)]
_Count = Annotated[int, msgspec.Meta(gt=0)]
_Pixels = Annotated[int, msgspec.Meta(gt=0, le=2048)]
"""At most 2048, because opening a model classifies a patch."""

_DEPTH = 100
"""Largest number of lists and objects of a card within each other."""

_Examples = Annotated[dict[str, str], msgspec.Meta(max_length=10_000)]

_EXAMPLES_LIMIT = 64 * 2**20
"""Largest size of all examples together, and of the reference, as base64, in bytes."""


@dataclass(frozen=True)
class ModelCard:
    """A model's identity, input, output and origin.

    A new field must have a default, because the cards of models in use do not have the field.

    Attributes:
        version: Unique name of the model; every answer of the service names the version.
        classes: Class names in label order.
        bands: Names of the input channels in the model's order.
        patch_size: Height and width of a patch in pixels.
        backbone: Name of the timm model.
        format: Format of the file, such as ``"checkpoint"`` or ``"onnx-int8"``.
        checkpoint: SHA-256 of the checkpoint that the model was made from.
        data: Source, fingerprint and number of the run's images, as in ``run.json``.
        split: The run's training, validation and test splits, as in ``run.json``.
        synthetic: Whether the run's images are generated; None if unknown.
        metrics: Metrics of the run's test, as in ``metrics.json``.
        git: Revision of the code that trained the model, as in ``run.json``.
        export: Result of the parity gate when the file was made; empty for a checkpoint.
        examples: Example image files, base64 by file name.
        reference: The reference of `eurosat.monitoring`, base64; empty if an older version of
            eurosat wrote the card, or if the model gives no features.
        layout: Version of this card's layout.
    """

    version: _Text
    classes: _Names
    bands: _Names
    patch_size: _Pixels
    backbone: _Text
    format: _Text
    checkpoint: _Text
    data: dict[str, Any] | None = None
    split: dict[str, Any] | None = None
    synthetic: bool | None = None
    metrics: dict[str, Any] | None = None
    git: dict[str, Any] | None = None
    export: dict[str, Any] = field(default_factory=dict)
    examples: _Examples = field(default_factory=dict, repr=False)
    reference: str = field(default="", repr=False)
    layout: _Count = _LAYOUT

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
        """Number of channels, height and width of a patch."""
        return (len(self.bands), self.patch_size, self.patch_size)

    def to_json(self) -> str:
        """Write the card as JSON."""
        return json.dumps(asdict(self))

    def summary(self) -> dict[str, Any]:
        """Give the fields that people read, without example images and reference."""
        content = asdict(self)
        del content["examples"], content["reference"]
        return content

    @classmethod
    def from_json(cls, text: str | None, file: str) -> "ModelCard":
        """Read a card, which another version of eurosat may have written.

        A field that the writer did not know gets its default. A field that only the writer knew is
        ignored, and is lost if the card is written again. `layout` changes only when the meaning
        of a field changes, and this function reads every older layout, too. Text is made plain, so
        that the card can be printed.

        Args:
            text: The entry `CARD_KEY` of the file's metadata; None if there is no such entry.
            file: The file's name, for error messages.

        Raises:
            ModelFileError: There is no card, a field is missing or has a wrong type, or a newer
                version of eurosat wrote the card in a layout that this version does not know.
        """
        if text is None:
            raise ModelFileError(
                f"{file} has no model card of this project: give a file that 'eurosat export' "
                "wrote, or a checkpoint of a run"
            )
        try:
            content = json.loads(text)
            _check_layout(content, file)
            card = msgspec.convert(_plain(content), cls)
            _check_values(card)
        except (ValueError, RecursionError, msgspec.ValidationError) as error:
            raise ModelFileError(
                f"the model card of {file} cannot be read ({error}): export the file again from "
                "its checkpoint"
            ) from error
        return replace(card, layout=_LAYOUT)


def _check_layout(content: Any, file: str) -> None:
    layout: Any = content.get("layout") if isinstance(content, dict) else None
    if type(layout) is not int or layout < 1:
        raise ValueError("the card is no JSON object with the number of its layout")
    if layout > _LAYOUT:
        raise ModelFileError(
            f"{file} was made by a newer version of eurosat: its model card has layout {layout}, "
            f"and this version reads layouts up to {_LAYOUT}; upgrade eurosat"
        )


def _plain(content: Any, depth: int = 0) -> Any:
    """Make every text of a JSON value plain, and replace a number that JSON lacks by null."""
    if depth > _DEPTH:
        raise ValueError(f"its values are nested more than {_DEPTH} times")
    match content:
        case float() if not math.isfinite(content):
            return None
        case str():
            return plain(content)
        case list():
            return [_plain(value, depth + 1) for value in content]
        case dict():
            return {plain(name): _plain(value, depth + 1) for name, value in content.items()}
    return content


def _check_values(card: ModelCard) -> None:
    """Check what the types of the fields do not say.

    Raises:
        ValueError: A name appears twice, a band is unknown, an example is not base64, or the
            examples or the reference are too large.
    """
    if max(sum(map(len, card.examples.values())), len(card.reference)) > _EXAMPLES_LIMIT:
        raise ValueError("the examples or the reference are larger than 64 MiB")
    for names in (card.classes, card.bands):
        if len(set(names)) < len(names):
            raise ValueError(f"a name appears twice in {', '.join(names)}")
    resolve_channels(card.bands)
    for name, image in card.examples.items():
        try:
            decoded = base64.b64decode(image, validate=True)
        except ValueError as error:
            raise ValueError(f"the example {name} is not base64") from error
        if not decoded:
            raise ValueError(f"the example {name} is empty")
