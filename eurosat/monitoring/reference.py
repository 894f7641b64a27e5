"""The reference of a model: what the model computes for validation images, and how usual that is.

Drift is a difference from the reference, and the out-of-distribution (OOD) score is the rank of an
image among the reference's images. Images of the training split are no reference, because a model
is surer of the images that it was trained on.
"""

import base64
import binascii
import io
import zipfile
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from eurosat.errors import ModelReferenceError
from eurosat.inference.backend import Features, Probabilities
from eurosat.inference.card import ModelCard
from eurosat.monitoring.neighbours import Neighbours, Whitening
from eurosat.monitoring.statistics import Statistics, statistic_names

Scores = npt.NDArray[np.float32]
"""OOD scores, shape (N,): 0 to 1, and 1 is the most unusual."""

FALSE_FLAGS = 0.01
"""Fraction of the images like the validation images that are flagged as unlike them."""

MAX_IMAGES = 1000
"""Largest number of images that a reference keeps."""

DIMENSIONS = 32
"""Largest number of principal components of the features."""

_LAYOUT = 1
"""Number of the layout; the number grows when a field changes its meaning."""

_LARGEST = 256 * 2**20
"""Largest size of an unpacked reference in bytes."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Outputs and input statistics of a model for validation images.

    The OOD score of an image comes from two distances: of its features, and of its input
    statistics, each to the fifth nearest image of the reference, after whitening. The rank of a
    distance among the distances of all validation images is a p-value (split conformal: Vovk et
    al., 2005, Algorithmic Learning in a Random World). Fisher's statistic joins both p-values, and
    its rank among the validation images is the score.

    Attributes:
        model_version: Version of the model.
        checkpoint: SHA-256 of the checkpoint.
        format: Format of the model's file; features differ between formats.
        classes: Class names in label order.
        bands: Names of the channels.
        labels: True labels, int64, shape (N,).
        probabilities: float32, shape (N, classes).
        statistics: Input statistics, float32, shape (N, S).
        embeddings: Whitened principal components of the features, float32, shape (N, D).
        pca_mean: Mean of the features, float32, shape (F,).
        pca_axes: float32, shape (F, D): ``embedding = (features - pca_mean) @ pca_axes``.
        feature_distances: Distances of all M validation images' features, sorted, shape (M,).
        statistic_distances: Distances of their input statistics, sorted, shape (M,).
        joint: Fisher's statistic of all validation images, sorted, shape (M,).
    """

    model_version: str
    checkpoint: str
    format: str
    classes: tuple[str, ...]
    bands: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    probabilities: Probabilities
    statistics: Statistics
    embeddings: Features
    pca_mean: npt.NDArray[np.float32]
    pca_axes: npt.NDArray[np.float32]
    feature_distances: npt.NDArray[np.float32]
    statistic_distances: npt.NDArray[np.float32]
    joint: npt.NDArray[np.float32]

    @property
    def can_flag(self) -> bool:
        """Whether there are enough validation images to flag the most unusual 1 %."""
        return 1 / (len(self.joint) + 1) <= FALSE_FLAGS

    def embed(self, features: Features) -> Features:
        """Give the whitened principal components, float32, shape (N, D), of features (N, F).

        Raises:
            ModelReferenceError: The features have another length than the reference's features.
        """
        if features.shape[1:] != self.pca_mean.shape:
            raise ModelReferenceError(
                f"the features have {features.shape[1:]} values and those of the reference of "
                f"{self.model_version} have {self.pca_mean.shape}: give the reference of the model "
                "that computed the features"
            )
        return Whitening(self.pca_mean, self.pca_axes)(features)

    def ood_scores(self, features: Features, statistics: Statistics) -> Scores:
        """Compute the OOD scores of images.

        Args:
            features: float32, shape (N, F), of the model of this reference.
            statistics: Input statistics, float32, shape (N, S).

        Returns:
            The fraction of the validation images that are less unusual, float32, shape (N,).

        Raises:
            ModelReferenceError: The features have another length than the reference's features.
        """
        distances = self._features.distances(self.embed(features))
        joint = _fisher(
            _p_values(distances, self.feature_distances),
            _p_values(self._statistics.distances(statistics), self.statistic_distances),
        )
        return (1 - _p_values(joint, self.joint)).astype(np.float32)

    def flags(self, scores: Scores) -> npt.NDArray[np.bool_]:
        """Return which scores belong to the most unusual 1 %, shape (N,).

        With less than 99 validation images no score can be that unusual, and nothing is flagged.
        """
        return 1 - scores <= FALSE_FLAGS + 1e-6

    @cached_property
    def _features(self) -> Neighbours:
        return Neighbours(self.embeddings)

    @cached_property
    def _statistics(self) -> Neighbours:
        return _statistic_neighbours(self.statistics, len(self.bands))

    def to_bytes(self) -> bytes:
        """Write a compressed ``.npz`` file, with probabilities and embeddings in float16."""
        arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("probabilities", "embeddings"):
            arrays[name] = arrays[name].astype(np.float16)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, layout=_LAYOUT, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> "Reference":
        """Read a reference.

        Args:
            content: The bytes of the file.
            name: The file's name, for error messages.

        Raises:
            ModelReferenceError: The content is damaged, no reference, or of a newer layout.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > _LARGEST:
                raise ValueError(f"it unpacks to {size} bytes, and {_LARGEST} are allowed")
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                layout = int(file["layout"])
                if layout > _LAYOUT:
                    raise ModelReferenceError(
                        f"{name} has a reference of layout {layout}, and this version reads "
                        f"layouts up to {_LAYOUT}: upgrade eurosat"
                    )
                values: dict[str, Any] = {field.name: file[field.name] for field in fields(cls)}
            for field in ("model_version", "checkpoint", "format"):
                values[field] = str(values[field])
            for field in ("classes", "bands"):
                values[field] = tuple(map(str, values[field]))
            for field in ("probabilities", "embeddings"):
                values[field] = values[field].astype(np.float32)
            reference = cls(**values)
            reference._check()
        except ModelReferenceError:
            raise
        except Exception as error:  # zipfile, zlib and NumPy raise errors of many types.
            raise ModelReferenceError(
                f"{name} holds no reference of a model, or is damaged ({error}): export the model "
                "again, or give a model file that 'eurosat export' wrote"
            ) from error
        return reference

    def _check(self) -> None:
        count, classes = len(self.labels), len(self.classes)
        (length,), width = self.pca_mean.shape, len(statistic_names(self.bands))
        shapes = {
            "probabilities": (count, classes),
            "statistics": (count, width),
            "embeddings": (count, self.pca_axes.shape[1]),
            "pca_axes": (length, self.embeddings.shape[1]),
        }
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values.shape != shape or not np.isfinite(values).all():
                raise ValueError(f"{name} is not finite or not of shape {shape}")


def make_reference(
    card: ModelCard,
    features: Features,
    probabilities: Probabilities,
    statistics: Statistics,
    labels: npt.NDArray[np.int64],
) -> Reference:
    """Make the reference of a model from its outputs for validation images.

    The reference keeps at most `MAX_IMAGES` images, the first ones, and the distances of all
    images. The distance of an image that is kept leaves out the image itself.

    Args:
        card: The model's card.
        features: float32, shape (M, F).
        probabilities: float32, shape (M, classes).
        statistics: Input statistics, float32, shape (M, S).
        labels: True labels, shape (M,).

    Raises:
        ModelReferenceError: There are fewer than two images, or an output is not finite.
    """
    if len(labels) < 2:
        raise ModelReferenceError(
            "a reference needs two or more validation images: split differently"
        )
    if not (np.isfinite(features).all() and np.isfinite(probabilities).all()):
        raise ModelReferenceError(
            f"the outputs of {card.version} are not finite: train the model anew"
        )
    kept = slice(MAX_IMAGES)
    whitening = Whitening.fit(features[kept], DIMENSIONS)
    # The reference is stored in float16, and must give the same distances when it is read.
    embeddings = whitening(features[kept]).astype(np.float16).astype(np.float32)
    own = np.arange(len(labels))
    feature_distances = Neighbours(embeddings).distances(whitening(features), own)
    statistic_distances = _statistic_neighbours(statistics[kept], len(card.bands)).distances(
        statistics, own
    )
    sorted_distances = np.sort(feature_distances), np.sort(statistic_distances)
    joint = _fisher(
        _p_values(feature_distances, sorted_distances[0]),
        _p_values(statistic_distances, sorted_distances[1]),
    )
    return Reference(
        model_version=card.version,
        checkpoint=card.checkpoint,
        format=card.format,
        classes=card.classes,
        bands=card.bands,
        labels=labels[kept].astype(np.int64),
        probabilities=probabilities[kept],
        statistics=statistics[kept],
        embeddings=embeddings,
        pca_mean=whitening.mean,
        pca_axes=whitening.axes,
        feature_distances=sorted_distances[0],
        statistic_distances=sorted_distances[1],
        joint=np.sort(joint),
    )


def card_reference(card: ModelCard, name: str) -> Reference | None:
    """Read the reference in a model's card.

    Args:
        card: The card.
        name: The file's name, for error messages.

    Returns:
        The reference; None if an older version of eurosat wrote the card, or if the model gives no
        features.

    Raises:
        ModelReferenceError: The reference is damaged, of a newer layout, or of another model.
    """
    if not card.reference:
        return None
    try:
        content = base64.b64decode(card.reference, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ModelReferenceError(
            f"the reference of {name} is damaged ({error}): export the model again"
        ) from error
    reference = Reference.from_bytes(content, name)
    for field in ("checkpoint", "format", "classes", "bands"):
        if getattr(reference, field) != getattr(card, field):
            raise ModelReferenceError(
                f"the reference of {name} belongs to another model: its {field} is "
                f"{getattr(reference, field)}, and the model's is {getattr(card, field)}. Export "
                "the model again, or delete the .reference.npz beside a checkpoint"
            )
    return reference


def _statistic_neighbours(statistics: Statistics, channels: int) -> Neighbours:
    """Compare statistics with the standard deviations on a scale of factors.

    The last column is left out, because it is a difference of two other columns.
    """

    def scaled(values: Statistics) -> Statistics:
        scaled = values[:, :-1].copy()
        scaled[:, channels : 2 * channels] = np.log(scaled[:, channels : 2 * channels] + 0.003)
        return scaled

    return Neighbours(statistics, scaled)


def _p_values(values: npt.NDArray[Any], calibration: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Give the fraction of calibration values, sorted, that are as large or larger."""
    larger = len(calibration) - np.searchsorted(calibration, values, side="left")
    return (1 + larger) / (len(calibration) + 1)


def _fisher(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Join two p-values (Fisher, 1925); the statistic is rounded as it is stored."""
    statistic: npt.NDArray[np.float32] = (-np.log(first) - np.log(second)).astype(np.float32)
    return statistic
