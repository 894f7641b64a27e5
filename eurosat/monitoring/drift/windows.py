"""Cut traffic into windows of independent images, and compare each window with the reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eurosat.errors import DriftError
from eurosat.monitoring.drift.clusters import Clusters, find_clusters
from eurosat.monitoring.drift.estimates import (
    ClassFraction,
    Estimate,
    estimate_accuracy,
    estimate_fractions,
)
from eurosat.monitoring.drift.families import MIN_PICTURES, Family, run_families
from eurosat.monitoring.drift.traffic import Floats, Traffic

if TYPE_CHECKING:
    from eurosat.monitoring.reference import Reference

WINDOW = 300
"""Images in a window: with 100 images, a missing class of EuroSAT was found in no window."""


@dataclass(frozen=True)
class Sample:
    """Independent images of one window.

    Attributes:
        images: Every stride-th request of the window.
        requests: Number of requests that the window spans.
        clusters: How much neighbouring requests resembled each other.
        embeddings: The embeddings that are tested with the window, shape (M, D). A service logs at
            most 1,000 embeddings an hour, so a window of busy hours has few; they are gathered
            over windows until they are enough, and each embedding is tested once.
    """

    images: Traffic
    requests: int
    clusters: Clusters
    embeddings: Floats

    @property
    def gathered(self) -> Floats:
        """The embeddings that wait for the next window, because they are too few for a test."""
        return self.embeddings[: 0 if len(self.embeddings) >= MIN_PICTURES else None]


@dataclass(frozen=True)
class Window:
    """One window, compared with the reference.

    Attributes:
        start: Time of the first image, in seconds since 1970.
        end: Time of the last image, in seconds since 1970.
        pictures: Number of images that were tested.
        requests: Number of requests that the window spans; more than ``pictures`` if the traffic
            was clustered.
        clusters: How much neighbouring requests resembled each other.
        families: The results of the four families.
        accuracy: The estimated accuracy.
        fractions: The estimated fractions of the true classes.
        flagged: Fraction of the images that look unlike the reference; None without OOD scores.
    """

    start: float
    end: float
    pictures: int
    requests: int
    clusters: Clusters
    families: tuple[Family, ...]
    accuracy: Estimate
    fractions: tuple[ClassFraction, ...]
    flagged: float | None

    @property
    def drift(self) -> bool:
        """Whether a family found a change."""
        return any(family.drift for family in self.families)


def _sample(images: Traffic, requests: int, clusters: Clusters, before: Sample | None) -> Sample:
    known = images.embeddings[np.isfinite(images.embeddings).all(axis=1)]
    if before is not None:
        known = np.concatenate([before.gathered, known])
    return Sample(images, requests, clusters, known)


def cut(traffic: Traffic, size: int, before: Sample | None = None) -> tuple[list[Sample], Traffic]:
    """Cut traffic into full windows.

    Args:
        traffic: Traffic in the order of its times.
        size: Number of independent images in a window.
        before: The window before the traffic, if there is one.

    Returns:
        The full windows, and the traffic after the last full window.

    Raises:
        DriftError: The size is below `MIN_PICTURES`.
    """
    if size < MIN_PICTURES:
        raise DriftError(
            f"a window of {size} images is too few to say anything: choose a --window of at least "
            f"{MIN_PICTURES}"
        )
    samples = []
    while len(traffic) >= size:
        clusters = find_clusters(traffic.rows(slice(size)))
        requests = size * clusters.stride
        if len(traffic) < requests:
            break
        images = traffic.rows(slice(0, requests, clusters.stride))
        before = _sample(images, requests, clusters, before)
        samples.append(before)
        traffic = traffic.rows(slice(requests, None))
    return samples, traffic


def thin(traffic: Traffic, before: Sample | None = None) -> Sample:
    """Take the independent images of traffic that does not fill a window."""
    clusters = find_clusters(traffic)
    images = traffic.rows(slice(None, None, clusters.stride))
    return _sample(images, len(traffic), clusters, before)


def judge(reference: "Reference", sample: Sample, statistic_names: Sequence[str]) -> Window:
    """Compare a window with the reference.

    Args:
        reference: The reference.
        sample: At least `MIN_PICTURES` independent images.
        statistic_names: Names of the S input statistics.

    Raises:
        DriftError: There are too few images.
    """
    images = sample.images
    if len(images) < MIN_PICTURES:
        raise DriftError(
            f"{len(images)} images are too few to say whether they drifted: at least "
            f"{MIN_PICTURES} are needed"
        )
    families = run_families(reference, images, sample.embeddings, statistic_names)
    scores = images.ood[np.isfinite(images.ood)]
    return Window(
        start=float(images.times[0]),
        end=float(images.times[-1]),
        pictures=len(images),
        requests=sample.requests,
        clusters=sample.clusters,
        families=families,
        accuracy=estimate_accuracy(reference, images, families),
        fractions=estimate_fractions(reference, images),
        flagged=float(np.mean(reference.flags(scores))) if len(scores) else None,
    )
