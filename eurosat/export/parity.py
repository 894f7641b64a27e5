"""The parity gate: an exported file must give the answers of its checkpoint.

The gate opens the file as the service opens it.
"""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from eurosat.errors import ParityError
from eurosat.inference.backend import Features, Model, Patches
from eurosat.models.predictor import Predictor

BATCH_SIZES = (64, 1, 7, 32, 2)
"""Sizes of the batches; the batches of a comparison take the sizes in turn."""


@dataclass(frozen=True)
class Comparison:
    """Result of the parity gate.

    Attributes:
        images: Number of compared validation patches.
        max_difference: Largest absolute difference of a probability.
        changed_predictions: Fraction of patches with another predicted class, 0 to 1.
        accuracy: Accuracy of the file on the patches, 0 to 1.
        checkpoint_accuracy: Accuracy of the checkpoint on the patches, 0 to 1.
        batch_sizes: Sizes of the batches.
        feature_similarity: Cosine similarity of a patch's features in file and checkpoint, the
            smallest but 1 % of the patches, -1 to 1; None if the model gives no features.
    """

    images: int
    max_difference: float
    changed_predictions: float
    accuracy: float
    checkpoint_accuracy: float
    batch_sizes: list[int]
    feature_similarity: float | None = None

    @property
    def lost_points(self) -> float:
        """Percentage points of accuracy that the file lost; a gain is negative."""
        return 100 * (self.checkpoint_accuracy - self.accuracy)

    def as_dict(self) -> dict[str, object]:
        """Give the result as JSON values for the card."""
        return {"part": "val"} | asdict(self)


def compare(
    model: Model, predictor: Predictor, patches: Patches, labels: npt.NDArray[np.int64]
) -> Comparison:
    """Compare a model file's answers with its checkpoint's, in eager float32 PyTorch.

    Args:
        model: The opened file.
        predictor: The checkpoint's model.
        patches: Raw patches, shape (N, C, size, size).
        labels: int64, shape (N,).

    Returns:
        The figures.

    Raises:
        ParityError: The file's answers have another shape or dtype than the checkpoint's answers.
    """
    batches = list(_batches(patches))
    # Checkpoint and file run one after the other, because their threads would share the cores.
    with torch.inference_mode():
        described = predictor.has_features(torch.from_numpy(batches[0][:1]))
        outputs = [
            predictor.describe(torch.from_numpy(batch))
            if described
            else (predictor(torch.from_numpy(batch)), None)
            for batch in _shown(batches)
        ]
    references = [probabilities.numpy() for probabilities, _ in outputs]
    found = [model.run(batch) for batch in _shown(batches)]
    answers = [output.probabilities for output in found]
    for answer, reference in zip(answers, references, strict=True):
        if answer.shape != reference.shape or answer.dtype != np.float32:
            raise ParityError(
                f"the file answers {len(reference)} patches with {answer.dtype} of shape "
                f"{answer.shape}, so the backbone cannot be exported to the format: choose another "
                "--format"
            )
    ours, theirs = np.concatenate(answers), np.concatenate(references)
    return Comparison(
        images=len(patches),
        # A NaN among the probabilities makes the maximum NaN, and NaN passes no comparison.
        max_difference=float(np.abs(ours - theirs).max()),
        changed_predictions=float(np.mean(ours.argmax(1) != theirs.argmax(1))),
        accuracy=float(np.mean(ours.argmax(1) == labels)),
        checkpoint_accuracy=float(np.mean(theirs.argmax(1) == labels)),
        batch_sizes=sorted({len(batch) for batch in batches}),
        feature_similarity=_similarity(
            [output.features for output in found],
            [None if features is None else features.numpy() for _, features in outputs],
        ),
    )


def _similarity(ours: list[Features | None], theirs: list[Features | None]) -> float | None:
    """Compare features by their cosine similarity.

    Raises:
        ParityError: The file's features have another shape than the checkpoint's features.
    """
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    if len(pairs) < len(ours):
        return None
    mine, reference = (np.concatenate(list(rows)) for rows in zip(*pairs, strict=True))
    if mine.shape != reference.shape:
        raise ParityError(
            f"the file gives features of shape {mine.shape} in place of {reference.shape}, so the "
            "backbone cannot be exported to the format: choose another --format"
        )
    lengths = np.linalg.norm(mine, axis=1) * np.linalg.norm(reference, axis=1)
    return float(np.quantile((mine * reference).sum(axis=1) / np.maximum(lengths, 1e-12), 0.01))


def _batches(patches: Patches) -> Iterator[Patches]:
    start, sizes = 0, itertools.cycle(BATCH_SIZES)
    while start < len(patches):
        size = next(sizes)
        yield patches[start : start + size]
        start += size


def _shown(batches: list[Patches]) -> Iterator[Patches]:
    yield from tqdm(batches, desc="Comparing", unit="batch", leave=False)


def check_difference(found: Comparison, tolerance: float) -> None:
    """Check an exact file.

    Raises:
        ParityError: A probability differs by more than ``tolerance``.
    """
    if not found.max_difference <= tolerance:
        raise ParityError(
            f"the file's probabilities differ from the checkpoint's by up to "
            f"{found.max_difference:.2g} on {found.images} validation images, more than the "
            f"tolerance of {tolerance:.2g}; {found.changed_predictions:.2%} of the predictions "
            "changed. Nothing was written: choose another --format, or allow more with --tolerance"
        )


_LEAST_SIMILARITY = 0.9
"""An onnx-int8 file of PatchNet had 0.999 on 2,700 validation images."""


def check_features(found: Comparison) -> None:
    """Check that the file's features are those of the checkpoint, apart from rounding.

    Raises:
        ParityError: The features of 1 % of the images point in another direction.
    """
    similarity = found.feature_similarity
    if similarity is not None and not similarity >= _LEAST_SIMILARITY:
        raise ParityError(
            f"the file's features differ from the checkpoint's: for 1 % of {found.images} "
            f"validation images their cosine similarity is {similarity:.2f} or less, and "
            f"{_LEAST_SIMILARITY} is needed. Nothing was written: choose a format that computes in "
            "float32"
        )


def check_accuracy(found: Comparison, max_accuracy_loss: float) -> None:
    """Check an approximate file, such as an int8 file.

    Raises:
        ParityError: The file lost more than ``max_accuracy_loss`` percentage points of accuracy, or
            a probability is NaN.
    """
    # The accuracies have rounding errors, which are far smaller than the weight of one image.
    if not found.lost_points <= max_accuracy_loss + 1e-9 or np.isnan(found.max_difference):
        raise ParityError(
            f"the file lost {found.lost_points:.2f} points of accuracy on {found.images} "
            f"validation images ({found.checkpoint_accuracy:.2%} to {found.accuracy:.2%}), "
            f"more than {max_accuracy_loss:g}; {found.changed_predictions:.2%} of the predictions "
            "changed. Nothing was written: calibrate on more images with --calibration_images, "
            "allow more with --max_accuracy_loss, or choose a format that computes in float32"
        )
