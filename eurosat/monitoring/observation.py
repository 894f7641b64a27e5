"""What monitoring sees of a prediction."""

from dataclasses import dataclass

import numpy as np

from eurosat.inference.backend import Features, Output, Patches, Probabilities
from eurosat.monitoring.reference import Reference, Scores
from eurosat.monitoring.statistics import Statistics, input_statistics


@dataclass(frozen=True)
class Observation:
    """The model's output for the patches of one image, and how unusual the patches are.

    Attributes:
        probabilities: float32, shape (N, classes); N is 1, or the number of the image's tiles.
        statistics: Input statistics, float32, shape (N, S).
        features: float32, shape (N, F); None if the model gives no features.
        ood: OOD scores, float32, shape (N,); None if the model has no reference.
    """

    probabilities: Probabilities
    statistics: Statistics
    features: Features | None = None
    ood: Scores | None = None

    @property
    def prediction(self) -> Probabilities:
        """The mean probabilities over the patches, shape (classes,)."""
        mean: Probabilities = self.probabilities.mean(axis=0)
        return mean

    @property
    def ood_score(self) -> float | None:
        """The median score of the patches: it is flagged if half of the patches are."""
        if self.ood is None:
            return None
        # Most images have one patch, and np.median takes 29 us even for one number.
        return float(self.ood[0] if len(self.ood) == 1 else np.median(self.ood))


def observe_output(
    images: list[Patches], output: Output, bands: tuple[str, ...], reference: Reference | None
) -> list[Observation]:
    """Compare the images of a request with the reference.

    Args:
        images: The patches of every image, each of shape (N, C, size, size).
        output: The model's output for the patches of all images.
        bands: Names of the channels.
        reference: The model's reference, if the model has one.
    """
    patches = images[0] if len(images) == 1 else np.concatenate(images)
    statistics = input_statistics(patches, bands)
    ood = None
    if reference is not None and output.features is not None:
        ood = reference.ood_scores(output.features, statistics)
    observations, start = [], 0
    for image in images:
        rows = slice(start, start + len(image))
        observations.append(
            Observation(
                output.probabilities[rows],
                statistics[rows],
                None if output.features is None else output.features[rows],
                None if ood is None else ood[rows],
            )
        )
        start = rows.stop
    return observations
