"""The export of a checkpoint: conversion, parity gate, and move of the file to its final path."""

import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from eurosat.errors import ExportError, ModelFileError, ParityError
from eurosat.evaluation.run_images import open_images
from eurosat.export.build import build, check_packages, package_versions
from eurosat.export.examples import draw_examples
from eurosat.export.parity import (
    Comparison,
    check_accuracy,
    check_difference,
    check_features,
    compare,
)
from eurosat.export.probe import check_opens
from eurosat.files import writing_to
from eurosat.inference.backend import Format, Patches, Write
from eurosat.inference.backends import find_format
from eurosat.inference.card import ModelCard
from eurosat.inference.checkpoint import open_checkpoint
from eurosat.inference.files import companions, model_files
from eurosat.inference.runtime import open_model
from eurosat.monitoring.reference_files import encode_reference, observe_images


@dataclass(frozen=True)
class ExportSettings:
    """Settings of an export; `eurosat.tools.export.export` explains each setting."""

    format: str = "onnx"
    output: Path | None = None
    source: str | None = None
    root: str | None = None
    split_files: str | None = None
    images: int = 1000
    calibration_images: int = 300
    tolerance: float = 1e-4
    max_accuracy_loss: float | None = None
    metrics: Path | None = None
    version: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ExportError: A number is out of its range.
        """
        for name in ("images", "calibration_images"):
            if getattr(self, name) < 1:
                raise ExportError(f"--{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("tolerance", "max_accuracy_loss"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ExportError(f"--{name} must be 0 or more, got {value:g}")

    def allowed_loss(self, card: ModelCard) -> float:
        """Give the percentage points of accuracy that an approximate file of a model may lose."""
        if self.max_accuracy_loss is not None:
            return self.max_accuracy_loss
        # Synthetic validation splits are small, and their accuracy does not describe real images.
        return 1.0 if card.synthetic else 0.3


@dataclass(frozen=True)
class Exported:
    """A file that passed its parity gate.

    Attributes:
        path: The file.
        format: The file's format.
        card: The file's card.
        found: Result of the parity gate.
        allowed_loss: Percentage points of accuracy that an approximate file may lose.
        size: Size of the file and its companion files in bytes.
    """

    path: Path
    format: Format
    card: ModelCard
    found: Comparison
    allowed_loss: float
    size: int


def export_checkpoint(checkpoint: Path, settings: ExportSettings) -> Exported:
    """Convert a checkpoint to another format, behind a parity gate.

    The export writes the file to a temporary folder on the same disk, opens the file as the service
    opens it, and compares the file with the checkpoint. Only a file that passes is moved to its
    final path.

    Args:
        checkpoint: A ``.ckpt`` file of a run.
        settings: Settings of the export.

    Returns:
        The exported file.

    Raises:
        ModelFileError: The checkpoint is missing or not of this project.
        ExportError: The file cannot be made or written as requested.
        ParityError: The file's answers differ from the checkpoint's answers.
    """
    format = find_format(settings.format)
    output = settings.output or checkpoint.with_name(
        f"{checkpoint.stem}-{format.name}{format.backend.suffix}"
    )
    _check_output(output, format, settings.overwrite)
    if checkpoint.suffix != ".ckpt" or not checkpoint.is_file():
        raise ModelFileError(
            f"there is no checkpoint {checkpoint}: give a .ckpt file of a run, such as "
            "outputs/<experiment>/<time>/checkpoints/last.ckpt"
        )
    check_packages(format)
    predictor, card = open_checkpoint(checkpoint)
    if settings.metrics:
        card = replace(card, metrics=_read_metrics(settings.metrics))
    data = open_images(
        checkpoint, card, settings.source, settings.root, split_files=settings.split_files
    )
    patches, labels = data.draw("val", settings.images if format.exact else None)
    calibration = None if format.exact else data.draw("train", settings.calibration_images)[0]
    print(f"Making {format.name} of {checkpoint}", file=sys.stderr)
    write = build(format, predictor, card, calibration)
    card = replace(
        card,
        format=format.name,
        version=(settings.version or card.version) + format.version_suffix,
        examples=draw_examples(data),
        reference="",
    )
    allowed_loss = settings.allowed_loss(card)
    with _staging(output) as draft:
        _write(write, draft, card, output)
        print(f"Comparing on {len(patches)} validation images", file=sys.stderr)
        if not format.exact:
            check_opens(draft)
        model = open_model(draft)
        found = compare(model, predictor, patches, labels)
        if format.exact:
            check_difference(found, settings.tolerance)
        else:
            check_accuracy(found, allowed_loss)
        check_features(found)
        # The reference belongs to this file, because another format computes other features.
        reference = observe_images(model, *data.draw("val", None))
        few = patches[:7]
        expected = model.predict(few)
        del model
        card = replace(
            card,
            export=_record(format, settings, found, allowed_loss, calibration),
            reference=encode_reference(reference),
        )
        _write(write, draft, card, output)
        final = open_model(draft)  # Writing the gate's figures must not change the answers.
        same_card = final.card.to_json() == card.to_json()  # In JSON texts, NaN equals NaN.
        if not same_card or not np.array_equal(final.predict(few), expected):
            raise ParityError(
                f"{output.name} changed when its card was written, and nothing was saved: choose "
                "another --format"
            )
        size = sum(path.stat().st_size for path in draft.parent.iterdir())
    return Exported(output, format, card, found, allowed_loss, size)


def _check_output(output: Path, format: Format, overwrite: bool) -> None:
    ending = format.backend.suffix
    if output.suffix != ending:
        raise ExportError(
            f"--format {format.name} writes a {ending} file, got --output {output}: give a name "
            f"that ends in {ending}"
        )
    if output.is_dir():
        raise ExportError(f"{output} is a folder: give the name of a {ending} file")
    for path in model_files(output):
        if path.exists() and not overwrite:
            raise ExportError(f"{path} exists: pass --overwrite true, or another --output")


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        metrics: dict[str, Any] = json.loads(path.read_text("utf-8"))
        metrics["accuracy"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"--metrics {path} is not the metrics.json of a test ({type(error).__name__}: "
            f"{error}): give the metrics.json of a run folder"
        ) from error
    return metrics


def _write(write: Write, draft: Path, card: ModelCard, output: Path) -> None:
    try:
        write(draft, card)
    except (OSError, RuntimeError) as error:  # A full disk is a RuntimeError of torch and OpenVINO.
        raise ExportError(
            f"{output} cannot be written ({error}): free space on the disk, or choose another "
            "--output"
        ) from error


@contextmanager
def _staging(output: Path) -> Iterator[Path]:
    """Create a temporary folder for a file, and move the file to ``output`` after success.

    Yields:
        Path of the file in the temporary folder.

    Raises:
        ExportError: ``output`` cannot be written.
    """
    with writing_to(output, ExportError):
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.stem}.", dir=output.parent))
    try:
        with writing_to(output, ExportError):
            yield folder / output.name
            # Companion files are moved first, so an existing model file always has its companions.
            for path in (*companions(output), output):
                (folder / path.name).chmod(0o644)
                (folder / path.name).replace(path)
    finally:
        shutil.rmtree(folder)


def _record(
    format: Format,
    settings: ExportSettings,
    found: Comparison,
    allowed_loss: float,
    calibration: Patches | None,
) -> dict[str, object]:
    """Describe the export for the card."""
    allowed: dict[str, object] = (
        {"tolerance": settings.tolerance}
        if calibration is None
        else {
            "max_accuracy_loss": allowed_loss,
            "calibration_images": len(calibration),
        }
    )
    return {
        "gate": found.as_dict(),
        **allowed,
        "images": found.images,
        "packages": package_versions(format),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
