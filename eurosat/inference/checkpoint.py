"""A run's checkpoint as a model that gives probabilities, with its card."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eurosat.errors import ModelFileError
from eurosat.inference.card import ModelCard

if TYPE_CHECKING:
    from eurosat.models.predictor import Predictor


def open_checkpoint(path: Path) -> "tuple[Predictor, ModelCard]":
    """Open a checkpoint of a run.

    What the run found out is taken from the ``run.json`` and ``metrics.json`` of its folder, if
    the checkpoint still lies there.

    Args:
        path: A ``.ckpt`` file. It is loaded as weights only: it cannot run code.

    Returns:
        The model in evaluation mode on the CPU, and its card.

    Raises:
        ModelFileError: The file is not a checkpoint of this project.
    """
    from eurosat.models.classifier import EuroSATClassifier
    from eurosat.models.predictor import Predictor

    try:
        classifier = EuroSATClassifier.load_from_checkpoint(
            path, map_location="cpu", weights_only=True
        )
    except Exception as error:
        raise ModelFileError(
            f"{path} is not a checkpoint of this project ({type(error).__name__}: {error})"
        ) from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    run = _read(path.parent.parent / "run.json")
    own_metrics = run.get("best_checkpoint") == f"checkpoints/{path.name}"
    started = str(run.get("started", ""))[:19].replace(":", "-")
    parts = [str(run.get("experiment", path.stem)), started, digest[:8]]
    card = ModelCard(
        version="-".join(part for part in parts if part),
        classes=classifier.classes,
        bands=tuple(channel.name for channel in classifier.preprocess.channels),
        patch_size=64,
        backbone=str(classifier.hparams["backbone"]),
        format="checkpoint",
        checkpoint=digest,
        data=run.get("data"),
        split=run.get("split"),
        synthetic=run.get("synthetic"),
        metrics=_read(path.parent.parent / "metrics.json") or None if own_metrics else None,
        git=run.get("git"),
    )
    return Predictor(classifier).eval(), card


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content
