"""From a checkpoint to a file that is served: made, compared, and only then put in its place."""

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
from eurosat.export.parity import Comparison, check_accuracy, check_difference, compare
from eurosat.inference.backend import Format, Patches, Write
from eurosat.inference.backends import find_format
from eurosat.inference.card import ModelCard
from eurosat.inference.checkpoint import open_checkpoint
from eurosat.inference.files import companions, model_files
from eurosat.inference.runtime import open_model


@dataclass(frozen=True)
class ExportSettings:
    """What an export is asked for; `eurosat.tools.export.export` explains each."""

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
            ExportError: One is out of its range.
        """
        for name in ("images", "calibration_images"):
            if getattr(self, name) < 1:
                raise ExportError(f"--{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("tolerance", "max_accuracy_loss"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ExportError(f"--{name} must be 0 or more, got {value:g}")

    def allowed_loss(self, card: ModelCard) -> float:
        """Percentage points of accuracy that an approximate file of this model may lose."""
        if self.max_accuracy_loss is not None:
            return self.max_accuracy_loss
        # Synthetic figures say nothing of land use, and come from few images.
        return 1.0 if card.synthetic else 0.3


@dataclass(frozen=True)
class Exported:
    """A file that passed its parity gate.

    Attributes:
        path: The file.
        format: Its format.
        card: Its card.
        found: What the parity gate found.
        allowed_loss: Percentage points of accuracy that the file may lose if it is approximate.
        size: Bytes of the file and its companion files.
    """

    path: Path
    format: Format
    card: ModelCard
    found: Comparison
    allowed_loss: float
    size: int


def export_checkpoint(checkpoint: Path, settings: ExportSettings) -> Exported:
    """Write a checkpoint in another format, behind a parity gate.

    The file is made in a temporary folder beside its place, opened from there as it will be
    served, compared with the checkpoint, and moved to its place only if it passes.

    Args:
        checkpoint: A ``.ckpt`` file of a run.
        settings: What is asked for.

    Returns:
        The file.

    Raises:
        ModelFileError: The checkpoint is missing or not of this project.
        ExportError: The file cannot be made or written as asked.
        ParityError: The file does not do what the checkpoint does.
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
    )
    allowed_loss = settings.allowed_loss(card)
    with _staging(output) as draft:
        _write(write, draft, card, output)
        print(f"Comparing on {len(patches)} validation images", file=sys.stderr)
        model = open_model(draft)
        found = compare(model, predictor, patches, labels)
        if format.exact:
            check_difference(found, settings.tolerance)
        else:
            check_accuracy(found, allowed_loss)
        few = patches[:7]
        expected = model.predict(few).copy()
        del model
        card = replace(card, export=_record(format, settings, found, allowed_loss, calibration))
        _write(write, draft, card, output)
        final = open_model(draft)  # with the gate's figures in it, it must still be the same
        same_card = final.card.to_json() == card.to_json()  # as text, where NaN equals NaN
        if not same_card or not np.array_equal(final.predict(few), expected):
            raise ParityError(f"{output.name} was not written as it was compared; nothing is left")
        size = sum(path.stat().st_size for path in draft.parent.iterdir())
    return Exported(output, format, card, found, allowed_loss, size)


def _check_output(output: Path, format: Format, overwrite: bool) -> None:
    ending = format.backend.suffix
    if output.suffix != ending:
        raise ExportError(f"--format {format.name} writes a {ending} file, got --output {output}")
    if output.is_dir():
        raise ExportError(f"{output} is a folder: give the name of a {ending} file")
    for path in model_files(output):
        if path.exists() and not overwrite:
            raise ExportError(f"{path} exists: pass --overwrite true, or another --output")


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        metrics: dict[str, Any] = json.loads(path.read_text())
        metrics["accuracy"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"--metrics {path} is not the metrics.json of a test ({type(error).__name__}: {error})"
        ) from error
    return metrics


def _write(write: Write, draft: Path, card: ModelCard, output: Path) -> None:
    try:
        write(draft, card)
    except (OSError, RuntimeError) as error:  # torch and OpenVINO say RuntimeError of a full disk
        raise ExportError(
            f"{output} cannot be written ({error}): make room, or choose another --output"
        ) from error


@contextmanager
def _staging(output: Path) -> Iterator[Path]:
    """A file to write, in a temporary folder; it is moved to its place if all goes well.

    Yields:
        The file to write.

    Raises:
        ExportError: The place cannot be written to.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.stem}.", dir=output.parent))
    except OSError as error:
        raise ExportError(
            f"{output} cannot be written ({error.strerror}): choose another --output"
        ) from error
    try:
        yield folder / output.name
        # Companion files come first: a model file that is in its place is complete.
        for path in (*companions(output), output):
            (folder / path.name).chmod(0o644)
            (folder / path.name).replace(path)
    except OSError as error:
        raise ExportError(
            f"{output} cannot be written ({error.strerror}): choose another --output"
        ) from error
    finally:
        shutil.rmtree(folder)


def _record(
    format: Format,
    settings: ExportSettings,
    found: Comparison,
    allowed_loss: float,
    calibration: Patches | None,
) -> dict[str, object]:
    """What the card says of the export."""
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
