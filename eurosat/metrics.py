"""The list of metrics that validation, test, report, study and gate measure.

A metric is one function of probabilities and labels. An entry of the list is logged as
``val/NAME`` and ``test/NAME``, and appears in ``metrics.json``, ``report.html``, a study's
``runs.csv`` and the gate's report. An installed package names a module with further metrics as an
entry point of the group ``eurosat.metrics``. This module needs NumPy only, and `eurosat.models`
imports it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from eurosat.calibration import CalibrationError
from eurosat.plugins import load_plugins

Probabilities = npt.NDArray[np.float32]
"""Class probabilities, float32, shape (N, C), in [0, 1]."""

Labels = npt.NDArray[np.int64]
"""Index of each image's true class, int64, shape (N,)."""

MISSING = "n/a"
"""The text for a value that was not measured or is not a number."""


@dataclass(frozen=True)
class Metric:
    """One entry of the list of metrics.

    Attributes:
        name: Key in ``metrics.json`` and end of the logged names, such as ``val/NAME``.
        title: Name for people, such as "Macro F1".
        score: Computes the value from the answers to N images, N of 1 or more; NaN means that the
            metric is not defined for the images. All processes of a training get the same images.
        shown: Whether the value is shown as a percentage or as a decimal number.
        better: Whether the smallest or the largest value is the best.
    """

    name: str
    title: str
    score: Callable[[Probabilities, Labels], float]
    shown: Literal["percent", "decimal"] = "decimal"
    better: Literal["min", "max"] = "max"

    def text(self, value: object) -> str:
        """Format a value for people; a value that is no finite number becomes "n/a"."""
        number = finite(value)
        if number is None:
            return MISSING
        return f"{number:.2%}" if self.shown == "percent" else f"{number:.4f}"


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Compute the fraction of the images that are classified correctly."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def accuracy_macro(probabilities: Probabilities, labels: Labels) -> float:
    """Compute the mean recall over the classes that some image has, as ``per_class`` lists them."""
    hits, actual, _ = _counts(probabilities, labels)
    some = actual > 0
    return float((hits[some] / actual[some]).mean())


def f1_macro(probabilities: Probabilities, labels: Labels) -> float:
    """Compute the mean F1 score over the classes that are a label or a prediction of some image."""
    hits, actual, predicted = _counts(probabilities, labels)
    some = (actual + predicted) > 0
    return float((2 * hits[some] / (actual + predicted)[some]).mean())


def calibration_error(probabilities: Probabilities, labels: Labels) -> float:
    """Compute the expected calibration error; see `eurosat.calibration.CalibrationError`."""
    correct = probabilities.argmax(axis=1) == labels
    return CalibrationError(probabilities.max(axis=1), correct).overall()


def brier_score(probabilities: Probabilities, labels: Labels) -> float:
    """Compute the mean squared distance from probabilities to labels, 0 to 2 (Brier, 1950)."""
    distances = probabilities.astype(np.float64)
    distances[np.arange(len(labels)), labels] -= 1
    return float((distances**2).sum(axis=1).mean())


def log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """Compute the mean negative logarithm of the true class's probability, in nats.

    A probability of 0, which an int8 model may give, counts as the smallest positive normal
    float32.
    """
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(true, np.finfo(np.float32).tiny)).mean())


def _counts(
    probabilities: Probabilities, labels: Labels
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count, for each class, the correct predictions, the labels and the predictions."""
    predicted = probabilities.argmax(axis=1)
    recognised = labels[predicted == labels]
    hits, actual, answers = (
        np.bincount(values, minlength=probabilities.shape[1])
        for values in (recognised, labels, predicted)
    )
    return hits, actual, answers


_METRICS = [
    Metric("accuracy", "Accuracy", accuracy, "percent"),
    Metric("accuracy_macro", "Macro accuracy", accuracy_macro, "percent"),
    Metric("f1_macro", "Macro F1", f1_macro, "percent"),
    Metric("ece", "Calibration error", calibration_error, better="min"),
    Metric("brier", "Brier score", brier_score, better="min"),
    Metric("loss", "Loss", log_loss, better="min"),
]


ENTRY_POINTS = "eurosat.metrics"
"""Group of the entry points that name modules with further metrics."""


def metrics() -> tuple[Metric, ...]:
    """Give the list of metrics, in the order in which they are shown."""
    _load()
    return tuple(_METRICS)


@cache
def _load() -> None:
    load_plugins(ENTRY_POINTS)


def register_metric(metric: Metric) -> None:
    """Append a metric to the list; models that are built after the call log the metric.

    Raises:
        ValueError: Another metric has the name, or the name has a character other than letters,
            digits and underscores.
    """
    if not metric.name.isidentifier() or metric.name == "per_class":
        raise ValueError(
            f"a metric cannot be named {metric.name!r}: use letters, digits and underscores, as "
            "in 'accuracy_macro'"
        )
    if any(metric.name == known.name for known in _METRICS):
        raise ValueError(f"there is a metric {metric.name} already: choose another name")
    _METRICS.append(metric)


def metric_named(name: str) -> Metric:
    """Find a metric by its name; an unknown name gives a metric whose title is the name.

    Files of other versions may hold metrics that this version does not know.
    """
    for metric in metrics():
        if metric.name == name:
            return metric
    return Metric(name, name, lambda probabilities, labels: math.nan)


def best_value(monitor: str | None) -> Literal["min", "max"]:
    """Say whether the smallest or the largest value of a logged metric is the best.

    Args:
        monitor: Name of the logged metric, such as ``val/loss``; the largest value counts as the
            best for None and for a metric that is not on the list.
    """
    return metric_named((monitor or "").rpartition("/")[2]).better


def values_of(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Read the metrics of a ``metrics.json``, which another version may have written.

    Args:
        record: Content of the file.

    Returns:
        Values of the metrics in the order of the list, then values of the other numbers in the
        file; None for a value that is missing or is no finite number.
    """
    names = [metric.name for metric in metrics()]
    names += [
        name for name, value in record.items() if name not in names and _is_number_or_null(value)
    ]
    return {name: finite(record.get(name)) for name in names}


def logged_names() -> list[str]:
    """Give the names that a run logs in its training, its validations and its test."""
    evaluated = [f"{stage}/{metric.name}" for stage in ("val", "test") for metric in metrics()]
    return ["train/loss", "train/accuracy", *evaluated]


def finite(value: object) -> float | None:
    """Convert a finite number to float; JSON's null, NaN, a text or another value becomes None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _is_number_or_null(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
