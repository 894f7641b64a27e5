"""References and logs whose distributions are known, in the layout of the real ones."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

CLASSES = ("Forest", "Highway", "Pasture", "River")
NAMES = tuple(f"statistic {index}" for index in range(8))
MODEL = "model-1"
FEATURES = 16
START = 1_790_000_000.0


@dataclass(frozen=True)
class KnownReference:
    """What the tests of drift read of a reference; embeddings are the first features."""

    model_version: str
    classes: tuple[str, ...]
    labels: Any
    probabilities: Any
    statistics: Any
    embeddings: Any
    pca_mean: Any
    bands: tuple[str, ...] = ("R", "G", "B")

    def embed(self, features: Any) -> Any:
        return features[:, : self.embeddings.shape[1]]

    def flags(self, scores: Any) -> Any:
        return scores > 0.99


@dataclass(frozen=True)
class KnownLog:
    """The columns and counts of a prediction log, a row an image."""

    id: Any
    index: Any
    time: Any
    model: Any
    route: Any
    latency: Any
    statistics: Any
    probabilities: Any
    ood: Any
    embedding: Any
    records: int = 0
    torn: int = 0
    dropped: int = 0
    foreign: int = 0
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)


def draw(count: int, seed: int, *, shift: float = 0.0, labels: Any = None) -> dict[str, Any]:
    """Draw labels, statistics, probabilities and features of independent images."""
    generator = np.random.default_rng(seed)
    if labels is None:
        labels = generator.integers(len(CLASSES), size=count)
    centres = np.random.default_rng(99).normal(size=(len(CLASSES), FEATURES))
    features = centres[labels] + generator.normal(size=(count, FEATURES))
    statistics = 0.5 * features[:, :8] + generator.normal(size=(count, 8)) + shift
    logits = 3.0 * np.eye(len(CLASSES))[labels] + generator.normal(size=(count, len(CLASSES)))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return {
        "labels": labels.astype(np.int64),
        "statistics": statistics.astype(np.float32),
        "probabilities": probabilities.astype(np.float32),
        "features": features.astype(np.float32),
    }


def known_reference(count: int = 1000, seed: int = 0, version: str = MODEL) -> KnownReference:
    """A reference of independent images."""
    drawn = draw(count, seed)
    return KnownReference(
        version,
        CLASSES,
        drawn["labels"],
        drawn["probabilities"],
        drawn["statistics"],
        drawn["features"],
        np.zeros(FEATURES, np.float32),
    )


def known_log(count: int, seed: int, *, model: str = MODEL, **settings: Any) -> KnownLog:
    """A log of requests with one image each, one a second."""
    drawn = draw(count, seed, **settings)
    return KnownLog(
        id=np.array([f"{seed}-{index:06d}" for index in range(count)]),
        index=np.zeros(count, np.int64),
        time=START + np.arange(count, dtype=np.float64),
        model=np.array([model] * count),
        route=np.array(["/predict"] * count),
        latency=np.full(count, 0.01, np.float32),
        statistics=drawn["statistics"],
        probabilities=drawn["probabilities"],
        ood=np.random.default_rng(seed).random(count).astype(np.float32),
        embedding=drawn["features"],
        records=count,
    )


def joined(*logs: KnownLog) -> KnownLog:
    """Several logs, one after the other in time."""
    columns: dict[str, Any] = {}
    start = START
    for log in logs:
        shifted = replace(log, time=log.time - log.time.min() + start)
        start = float(shifted.time.max()) + 1
        for entry in fields(log):
            columns.setdefault(entry.name, []).append(getattr(shifted, entry.name))
    return KnownLog(
        **{
            name: np.concatenate(parts)
            for name, parts in columns.items()
            if parts[0] is not None and isinstance(parts[0], np.ndarray)
        },
        records=sum(columns["records"]),
    )
