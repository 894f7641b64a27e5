"""A prediction log as CSV, Parquet, or a table for the terminal."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eurosat.files import atomic_write
from eurosat.monitoring.log.reader import PredictionLog

if TYPE_CHECKING:
    import pyarrow

_FIXED = ("id", "index", "time", "model", "route", "latency", "label", "confidence", "ood")

_NO_LABEL = "not a number"
"""Shown in the place of the label where a model gave no number."""

_SHOWN = 20
"""Rows of the table for the terminal."""


def to_csv(log: PredictionLog) -> str:
    """Write a log as CSV, a row for each image, with a column for each statistic and class."""
    statistics = _union(log.statistic_names)
    classes = _union(log.classes)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FIXED, *statistics, *(f"probability of {name}" for name in classes)])
    for row in range(len(log)):
        numbers = _named(log, row)
        writer.writerow(
            [
                *_fixed(log, row),
                *(_number(numbers["statistics"].get(name)) for name in statistics),
                *(_number(numbers["probabilities"].get(name)) for name in classes),
            ]
        )
    return text.getvalue()


def write_parquet(log: PredictionLog, path: Path) -> None:
    """Write a log as Parquet, a row for each image; arrays are lists of numbers."""
    from pyarrow import parquet

    with atomic_write(path) as partial:
        parquet.write_table(_table(log), partial)


def _table(log: PredictionLog) -> "pyarrow.Table":
    import pyarrow

    rows = [dict(zip(_FIXED, _fixed(log, row), strict=True)) for row in range(len(log))]
    texts, numbers = pyarrow.string(), pyarrow.list_(pyarrow.float32())
    columns: dict[str, Any] = {
        name: pyarrow.array([row[name] for row in rows], texts)
        for name in ("id", "model", "route", "label")
    }
    columns["index"] = pyarrow.array(log.index)
    moments = (log.time * 1e6).astype(np.int64)
    columns["time"] = pyarrow.array(moments, pyarrow.timestamp("us", tz="UTC"))
    columns["latency"] = pyarrow.array(log.latency)
    confidences = np.fmax.reduce(log.probabilities, axis=1, initial=np.nan)
    columns["confidence"] = pyarrow.array(confidences, pyarrow.float32(), from_pandas=True)
    columns["ood"] = pyarrow.array(log.ood, pyarrow.float32(), from_pandas=True)  # NaN is null
    for name in ("statistics", "probabilities"):
        lists = [_known(row) for row in getattr(log, name)]
        columns[name] = pyarrow.array(lists, numbers)
    embeddings = [
        None if place < 0 else _known(log.embedding[place]) for place in log.embedded.tolist()
    ]
    columns["embedding"] = pyarrow.array(embeddings, numbers)
    return pyarrow.table(columns)


def summary(log: PredictionLog) -> str:
    """Describe a log in lines: counts, period, models, and the latest images."""
    if len(log) == 0:
        return f"no records in this period\n{_counts(log)}"
    lines = [
        f"{log.records} requests, {len(log)} images, from {_moment(log.time[0])} to "
        f"{_moment(log.time[-1])}",
        _counts(log),
        "",
    ]
    for model in dict.fromkeys(log.model.tolist()):
        rows = np.flatnonzero(log.model == model)
        lines.append(f"{model}: {len(rows)} images")
        numbers, counts = np.unique(_classes(log.probabilities[rows]), return_counts=True)
        for place in np.argsort(-counts):
            label, count = _class_name(log, model, int(numbers[place])), counts[place]
            lines.append(f"  {label or _NO_LABEL:<24}{count:>8}  {count / len(rows):6.1%}")
    lines += ["", f"{'time':<21}{'id':<34}{'label':<24}confidence"]
    for row in range(max(0, len(log) - _SHOWN), len(log)):
        moment, confidence = _moment(log.time[row]), _confidence(log, row)
        label = _label(log, row) or _NO_LABEL
        lines.append(f"{moment:<21}{log.id[row]:<34}{label:<24}{confidence:.3f}")
    return "\n".join(lines)


def _counts(log: PredictionLog) -> str:
    return (
        f"{log.dropped} requests dropped, {log.torn} lines torn, {log.foreign} foreign lines or "
        f"files, {log.duplicates} duplicates"
    )


def _fixed(log: PredictionLog, row: int) -> Iterator[str]:
    """The columns that every image has."""
    yield str(log.id[row])
    yield str(log.index[row])
    yield datetime.fromtimestamp(log.time[row], UTC).isoformat(timespec="milliseconds")
    yield str(log.model[row])
    yield str(log.route[row])
    yield f"{log.latency[row]:.6f}"
    yield _label(log, row)
    yield _number(_confidence(log, row))
    yield _number(log.ood[row])


def _confidence(log: PredictionLog, row: int) -> float:
    """The largest probability; NaN if all are NaN."""
    return float(np.fmax.reduce(log.probabilities[row]))


def _label(log: PredictionLog, row: int) -> str:
    """The predicted class; an empty text if all probabilities are NaN."""
    (number,) = _classes(log.probabilities[row : row + 1])
    return _class_name(log, str(log.model[row]), int(number))


def _classes(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The numbers of the predicted classes; -1 where all probabilities are NaN."""
    numbers = np.where(np.isnan(probabilities), -np.inf, probabilities).argmax(axis=1)
    return np.where(np.isnan(probabilities).all(axis=1), -1, numbers)


def _class_name(log: PredictionLog, model: str, number: int) -> str:
    if number < 0:
        return ""
    names = log.classes.get(model, ())
    return names[number] if number < len(names) else f"class {number}"


def _named(log: PredictionLog, row: int) -> dict[str, dict[str, float]]:
    """The row's statistics and probabilities by name."""
    model = str(log.model[row])
    found = {}
    for array, names in (("statistics", log.statistic_names), ("probabilities", log.classes)):
        values = getattr(log, array)[row].tolist()
        found[array] = dict(zip(names.get(model, ()), values, strict=False))
    return found


def _union(names: dict[str, tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(name for own in names.values() for name in own))


def _number(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.6g}"


def _known(row: Any) -> list[float] | None:
    """The row's numbers without the padding; None if the row has none."""
    known = row[~np.isnan(row)]
    return known.tolist() if len(known) else None


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")
