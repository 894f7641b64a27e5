"""The metrics of `eurosat.metrics` as torchmetrics objects, which Lightning logs and gathers."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric as TorchMetric
from torchmetrics import MetricCollection
from torchmetrics.utilities import dim_zero_cat

from eurosat.metrics import Metric, metrics


class Score(TorchMetric):
    """Keeps probabilities and labels, and computes the metric of all of them at the end.

    Every process measures the answers of all processes, so that the value is exact. NumPy computes
    the sums, because CUDA has no deterministic kernel for some sums.
    """

    full_state_update = False
    probabilities: list[Tensor]
    labels: list[Tensor]

    def __init__(self, metric: Metric, **settings: Any) -> None:
        """Choose the metric.

        Args:
            metric: An entry of the list of metrics.
            **settings: See `torchmetrics.Metric`.
        """
        super().__init__(**settings)
        self.metric = metric
        self.add_state("probabilities", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Keep a batch.

        Args:
            probabilities: Class probabilities, float32, shape (B, C).
            labels: Index of each image's true class, int64, shape (B,).
        """
        self.probabilities.append(probabilities.detach())
        self.labels.append(labels)

    def compute(self) -> Tensor:
        """Compute the metric of the kept answers, as a float64 tensor on the CPU."""
        probabilities = dim_zero_cat(self.probabilities).cpu().numpy()
        labels = dim_zero_cat(self.labels).cpu().numpy()
        return torch.tensor(self.metric.score(probabilities, labels), dtype=torch.float64)


def score_collection(prefix: str) -> MetricCollection:
    """Build all metrics of the list.

    Args:
        prefix: Start of the names, such as ``val/``.

    Returns:
        One `Score` per metric. The scores share the tensors that they keep.
    """
    # Groups would save no memory, because a state is a list of references to the same tensors.
    return MetricCollection(
        {metric.name: Score(metric) for metric in metrics()}, prefix=prefix, compute_groups=False
    )
