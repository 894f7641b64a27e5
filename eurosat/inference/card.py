"""The model card, which describes a model in the metadata of its file, in every format."""

import base64
import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from eurosat.bands import is_rgb, resolve_channels
from eurosat.errors import ModelFileError

CARD_KEY = "eurosat"
"""Key of the card, as JSON, in a file format's own metadata."""

_LAYOUT = 1
"""Number of the card's layout; the number grows when a field changes its meaning.

A new field does not change the number.
"""


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
        """Number of channels, height and width of a patch."""
        return (len(self.bands), self.patch_size, self.patch_size)

    def to_json(self) -> str:
        """Write the card as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | None, file: str) -> "ModelCard":
        """Read a card, which another version of eurosat may have written.

        A field that the writer did not know gets its default. A field that only the writer knew is
        ignored, and is lost if the card is written again. `layout` changes only when the meaning
        of a field changes, and this function reads every older layout, too.

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
            known = {
                entry.name: content[entry.name] for entry in fields(cls) if entry.name in content
            }
            _check_fields(known)
        except (ValueError, RecursionError) as error:
            raise ModelFileError(
                f"the model card of {file} cannot be read ({error}): export the file again from "
                "its checkpoint"
            ) from error
        for name in ("classes", "bands"):
            known[name] = tuple(known[name])
        return cls(**known | {"layout": _LAYOUT})


def _check_layout(content: Any, file: str) -> None:
    layout: Any = content.get("layout") if isinstance(content, dict) else None
    if not _is_positive(layout):
        raise ValueError("the card is no JSON object with the number of its layout")
    if layout > _LAYOUT:
        raise ModelFileError(
            f"{file} was made by a newer version of eurosat: its model card has layout {layout}, "
            f"and this version reads layouts up to {_LAYOUT}; upgrade eurosat"
        )


def _check_fields(content: dict[str, Any]) -> None:
    """Check that every field is present or has a default, and that every value has the right type.

    Raises:
        ValueError: A field is missing, or has another type.
    """
    for entry in fields(ModelCard):
        if entry.name in content:
            right, wanted = _RULES.get(entry.name, _ANYTHING)
            if not right(content[entry.name]):
                found = json.dumps(content[entry.name])
                shown = found if len(found) <= 60 else f"{found[:57]}..."
                raise ValueError(f"'{entry.name}' must be {wanted}, not {shown}")
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise ValueError(f"'{entry.name}' is missing")
    resolve_channels(content["bands"])


def _is_positive(value: Any) -> bool:
    return type(value) is int and value > 0


def _are_names(value: Any) -> bool:
    names = value if isinstance(value, list) else []
    return all(isinstance(name, str) and name for name in names) and 0 < len(names) == len(
        set(names)
    )


def _is_record(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _are_images(value: Any) -> bool:
    try:
        return all(base64.b64decode(image, validate=True) for image in value.values())
    except (AttributeError, TypeError, ValueError):
        return False


_NAMES = (_are_names, "a list of distinct names")
_TEXT = (lambda value: isinstance(value, str) and value != "", "a text")
_RECORD = (_is_record, "an object or null")
_ANYTHING = (lambda value: True, "anything")

_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "version": _TEXT,
    "classes": _NAMES,
    "bands": _NAMES,
    "patch_size": (_is_positive, "a positive whole number"),
    "backbone": _TEXT,
    "format": _TEXT,
    "checkpoint": _TEXT,
    "data": _RECORD,
    "split": _RECORD,
    "synthetic": (lambda value: value is None or isinstance(value, bool), "true, false or null"),
    "metrics": _RECORD,
    "git": _RECORD,
    "export": (lambda value: isinstance(value, dict), "an object"),
    "examples": (_are_images, "an object of base64 texts"),
    "layout": (_is_positive, "a positive whole number"),
}
"""Rule of each field's JSON value: a check, and the name of a valid value in an error."""
