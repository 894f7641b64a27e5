"""The part of a prediction log that is compared with a reference: one image a request."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eurosat.errors import DriftError
from eurosat.monitoring.statistics import statistic_names

if TYPE_CHECKING:
    from eurosat.monitoring.log.reader import PredictionLog
    from eurosat.monitoring.reference import Reference

Floats = npt.NDArray[np.float32]

_EARLIEST = 1_435_017_600
"""Start of Sentinel-2A, 2015-06-23, in seconds since 1970: no prediction is older."""

_CLOCK_SLACK = 300.0
"""Seconds that the clock of a service may run ahead of the clock of the reader.

Machines that use NTP agree within a second; five minutes is Kerberos' tolerance (RFC 4120).
"""


@dataclass(frozen=True)
class Traffic:
    """Predictions of one model, one image a request, ordered by time.

    Attributes:
        ids: Ids of the requests, shape (N,).
        times: Seconds since 1970, float64, shape (N,), ascending.
        statistics: Input statistics, float32, shape (N, S).
        probabilities: float32, shape (N, K).
        embeddings: Whitened coordinates as `Reference.embed` gives them, float32, shape (N, D); a
            row of an image whose embedding was not logged is NaN.
        ood: Scores, float32, shape (N,); NaN where there is none.
        notes: Sentences that say what was left out of the log, and why.
    """

    ids: npt.NDArray[Any]
    times: npt.NDArray[np.float64]
    statistics: Floats
    probabilities: Floats
    embeddings: Floats
    ood: Floats
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def rows(self, which: slice | npt.NDArray[Any]) -> "Traffic":
        """Take some rows; the notes stay."""
        return Traffic(
            self.ids[which],
            self.times[which],
            self.statistics[which],
            self.probabilities[which],
            self.embeddings[which],
            self.ood[which],
            self.notes,
        )

    def join(self, later: "Traffic") -> "Traffic":
        """Append the rows of other traffic, in the order of the time; the later notes stay."""
        joined = Traffic(
            np.concatenate([self.ids, later.ids]),
            np.concatenate([self.times, later.times]),
            np.concatenate([self.statistics, later.statistics]),
            np.concatenate([self.probabilities, later.probabilities]),
            np.concatenate([self.embeddings, later.embeddings]),
            np.concatenate([self.ood, later.ood]),
            later.notes,
        )
        return joined.rows(np.lexsort((joined.ids, joined.times)))


def select(log: "PredictionLog", reference: "Reference", *, now: float | None = None) -> Traffic:
    """Choose the predictions of a log that can be compared with a reference.

    The images of one request often show one place, and the tests need independent images, so each
    request counts once: with the image whose embedding was logged, else with its first image.

    Args:
        log: The prediction log.
        reference: The reference of the model that made the predictions.
        now: Seconds since 1970; the clock's time if not given.

    Returns:
        The chosen predictions. Predictions of other models and predictions with impossible values
        or times are left out, and the notes say how many.

    Raises:
        DriftError: All predictions are of other models, or the reference has other statistics,
            classes or features than the log.
    """
    notes = _notes_of_reading(log)
    models = np.asarray(log.model, np.str_)
    ours: npt.NDArray[np.bool_] = np.equal(models, reference.model_version)
    others = sorted({str(name) for name in models[~ours]})
    if others and not ours.any():
        raise DriftError(
            f"the log holds predictions of {', '.join(others)}, and the reference belongs to "
            f"{reference.model_version}: give --reference the model file that the service runs"
        )
    if others:
        notes.append(
            f"{np.count_nonzero(~ours):,} images were classified by other models "
            f"({', '.join(others)}) and are left out."
        )
    statistics, probabilities, features = _columns(log, reference, ours)
    valid = _valid(statistics, probabilities)
    timely = _timely(log, time.time() if now is None else now)
    for wrong, what in (
        (ours & ~valid, "have statistics or probabilities that are not valid numbers"),
        (ours & valid & ~timely, "have times in the future or before 2015: check the clocks"),
    ):
        if count := np.count_nonzero(wrong):
            notes.append(f"{count:,} images {what}; they are left out.")
    # A reference without features has no columns here, and no image has an embedding.
    usable = np.flatnonzero(np.isfinite(features).all(axis=1) & (features.shape[1] > 0))
    missing = ~np.isin(log.embedded, usable)
    rows = _one_a_request(log, np.flatnonzero(ours & valid & timely), missing)
    return Traffic(
        ids=np.asarray(log.id)[rows],
        times=np.asarray(log.time, np.float64)[rows],
        statistics=statistics[rows],
        probabilities=probabilities[rows],
        embeddings=_embed(features, log.embedded[rows], missing[rows], reference),
        ood=np.asarray(log.ood, np.float32)[rows],
        notes=tuple(notes),
    )


def _notes_of_reading(log: "PredictionLog") -> list[str]:
    counted = {
        "lines or objects of the log are cut off or damaged, and lack records": log.torn,
        "requests are missing, because the service could not log them": log.dropped,
        "lines or files in the log's folder are no records of eurosat": log.foreign,
    }
    return [f"{count:,} {what}." for what, count in counted.items() if count]


def _columns(
    log: "PredictionLog", reference: "Reference", ours: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats]:
    """Give the log's statistics, probabilities and features, in the widths of the reference.

    In a log of several models, a column that only another model has is NaN.

    Raises:
        DriftError: Our model has columns that the reference does not have, or too few.
    """
    classes = log.classes.get(reference.model_version, reference.classes)
    if tuple(classes) != tuple(reference.classes):
        raise _other_model(reference, f"the classes {', '.join(classes)}", "other classes")
    expected = statistic_names(reference.bands)
    names = log.statistic_names.get(reference.model_version, expected)
    if tuple(names) != expected:
        raise _other_model(reference, f"the statistics {', '.join(names)}", "other statistics")
    logged = log.embedded[ours]
    found = []
    for what, values, rows, width in (
        ("statistics", log.statistics, ours, reference.statistics.shape[1]),
        ("classes", log.probabilities, ours, len(reference.classes)),
        ("features", log.embedding, logged[logged >= 0], len(reference.pca_mean)),
    ):
        known = np.isfinite(values[rows]).any(axis=0)
        columns = int(np.flatnonzero(known)[-1]) + 1 if known.any() else 0
        # Without any number, no embedding was logged, or `_valid` reports the rows.
        if columns not in (0, width):
            raise _other_model(reference, f"{columns} {what} an image", str(width))
        missing = max(width - values.shape[1], 0)
        values = np.pad(values[:, :width], ((0, 0), (0, missing)), constant_values=np.nan)
        found.append(values)
    return found[0], found[1], found[2]


def _other_model(reference: "Reference", found: str, expected: str) -> DriftError:
    return DriftError(
        f"the log has {found}, and the reference of {reference.model_version} has {expected}: the "
        "reference was made from another model file; give --reference the model file that the "
        "service runs"
    )


def _valid(statistics: Floats, probabilities: Floats) -> npt.NDArray[np.bool_]:
    """Find the rows of finite numbers whose probabilities are a distribution."""
    # Probabilities are float32 means over tiles, so their sum is 1 up to rounding.
    distribution = (np.abs(probabilities.sum(axis=1) - 1) < 1e-3) & (probabilities >= 0).all(axis=1)
    return np.asarray(distribution & np.isfinite(statistics).all(axis=1))


def _timely(log: "PredictionLog", now: float) -> npt.NDArray[np.bool_]:
    times = np.asarray(log.time, np.float64)
    return (times >= _EARLIEST) & (times <= now + _CLOCK_SLACK)


def _one_a_request(
    log: "PredictionLog", candidates: npt.NDArray[np.int64], missing: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Choose one of the candidate rows for each request, and order the chosen rows by time.

    Args:
        log: The prediction log.
        candidates: Numbers of rows.
        missing: For each row of the log, whether the row has no embedding.
    """
    ids = np.asarray(log.id)[candidates]
    order = np.lexsort((np.asarray(log.index)[candidates], missing[candidates], ids))
    _, first = np.unique(ids[order], return_index=True)
    rows = candidates[order[first]]
    times = np.asarray(log.time, np.float64)[rows]
    return np.asarray(rows[np.lexsort((np.asarray(log.id)[rows], times))])


def _embed(
    features: Floats,
    embedded: npt.NDArray[np.int64],
    missing: npt.NDArray[np.bool_],
    reference: "Reference",
) -> Floats:
    """Embed the images that have features; the rows of the other images are NaN.

    Args:
        features: Features, shape (M, F).
        embedded: For each image the number of its row in ``features``, shape (N,).
        missing: Whether an image has no features, shape (N,).
        reference: The reference.
    """
    coordinates = np.full((len(missing), reference.embeddings.shape[1]), np.nan, np.float32)
    if not missing.all():
        coordinates[~missing] = reference.embed(features[embedded[~missing]])
    return coordinates
