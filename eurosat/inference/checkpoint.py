"""A run's checkpoint as a model that gives probabilities, with its card."""

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from eurosat.errors import ModelFileError
from eurosat.inference.card import ModelCard
from eurosat.models.classifier import EuroSATClassifier


class Predictor(nn.Module):
    """Raw patches to probabilities: what every exported file holds."""

    def __init__(self, classifier: EuroSATClassifier) -> None:
        """Take the parts of a trained classifier."""
        super().__init__()
        self.preprocess = classifier.preprocess
        self.backbone = classifier.backbone

    def forward(self, patches: Tensor) -> Tensor:
        """Probabilities, float32, shape (B, classes), of uint8 or uint16 patches (B, C, H, W)."""
        logits: Tensor = self.backbone(self.preprocess(patches))
        return logits.float().softmax(dim=1)


def open_checkpoint(path: Path) -> tuple[Predictor, ModelCard]:
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
