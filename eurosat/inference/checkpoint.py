"""Opening a run's checkpoint as a model that gives probabilities, and building the model's card."""

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eurosat.errors import CheckpointError, ModelFileError, RunCardError
from eurosat.inference.card import ModelCard
from eurosat.plain_text import plain
from eurosat.run_card import RunCard, read_run_card

if TYPE_CHECKING:
    from eurosat.models.predictor import Predictor


def open_checkpoint(path: Path) -> "tuple[Predictor, ModelCard]":
    """Open a checkpoint of a run.

    The card takes the run's data and metrics from ``run.json`` and ``metrics.json`` if the
    checkpoint is in its run's folder.

    Args:
        path: A ``.ckpt`` file, which is data and runs no code; see `eurosat.models.saved`.

    Returns:
        The model in evaluation mode on the CPU, and its card.

    Raises:
        ModelFileError: The file is not a checkpoint of this project.
    """
    from eurosat.models.classifier import EuroSATClassifier
    from eurosat.models.predictor import Predictor

    try:
        classifier = EuroSATClassifier.load_from_checkpoint(path)
    except CheckpointError as error:
        raise ModelFileError(str(error)) from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    run = _run_card(path.parent.parent)
    known = run.to_json()
    own_metrics = run.best_checkpoint == f"checkpoints/{path.name}"
    started = (run.started or "")[:19].replace(":", "-")
    parts = [run.experiment or path.stem, started, digest[:8]]
    card = ModelCard(
        version="-".join(part for part in parts if part),
        classes=classifier.classes,
        bands=tuple(channel.name for channel in classifier.preprocess.channels),
        patch_size=classifier.hparams["patch_size"],
        backbone=str(classifier.hparams["backbone"]),
        format="checkpoint",
        checkpoint=digest,
        data=known["data"],
        split=known["split"],
        synthetic=run.synthetic,
        metrics=_metrics(path.parent.parent / "metrics.json") if own_metrics else None,
        git=known["git"],
        reference=_reference(path),
    )
    # A card is read in one way, which checks its values.
    return Predictor(classifier).eval(), ModelCard.from_json(card.to_json(), str(path))


def reference_file(checkpoint: Path) -> Path:
    """Give the path of the reference that a training writes beside its best checkpoint."""
    return checkpoint.with_suffix(".reference.npz")


def _reference(checkpoint: Path) -> str:
    """Read the reference beside a checkpoint as base64; an empty text if there is none."""
    path = reference_file(checkpoint)
    return base64.b64encode(path.read_bytes()).decode() if path.is_file() else ""


def _run_card(folder: Path) -> RunCard:
    """Read the run card of the checkpoint's run; a missing or damaged card gives an empty card."""
    try:
        return read_run_card(folder) or RunCard()
    except RunCardError as error:
        _warn(f"{error}; the model card does not describe the run")
        return RunCard()


def _metrics(path: Path) -> dict[str, Any] | None:
    """Read the metrics of the run's test; a missing or damaged file gives None."""
    try:
        content = json.loads(path.read_text("utf-8")) if path.is_file() else None
        if not isinstance(content, dict | None):
            raise ValueError("the file holds no JSON object")
    except (OSError, ValueError) as error:
        _warn(f"{path} is damaged ({error}); the model card does not list the metrics of the test")
        return None
    return content


def _warn(message: str) -> None:
    print(f"warning: {plain(message)}", file=sys.stderr)
