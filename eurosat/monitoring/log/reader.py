"""Reading a prediction log back into columns."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from eurosat.errors import PredictionLogError
from eurosat.monitoring.log.records import (
    Dropped,
    ForeignLineError,
    Header,
    Record,
    from_line,
    to_rows,
)
from eurosat.monitoring.log.store import Store, began, open_store, read_all, stem_of, unpack

_LONGEST_SEGMENT = 86_400.0
"""Longest time in seconds between a segment's name and its records.

A segment is open for minutes; the rest is for clocks that are set while a segment is open.
"""


@dataclass(frozen=True)
class PredictionLog:
    """The images of a prediction log, one a row, in the order of their times.

    Columns of models with fewer classes, input statistics or features are filled with NaN on the
    right; `of_model` gives the rows of one model without them.

    Attributes:
        id: Ids of the requests, shape (N,).
        index: Numbers of the images in their requests, int64, shape (N,).
        time: Seconds since 1970, float64, shape (N,).
        model: Versions of the models, shape (N,).
        route: Paths of the routes, shape (N,).
        latency: Seconds from the request's arrival to its record, float64, shape (N,).
        statistics: Input statistics, float32, shape (N, S).
        probabilities: Probabilities, float32, shape (N, classes).
        ood: Out-of-distribution scores, float32, shape (N,); NaN where the model had no reference.
        embedding: Features, float32, shape (N, F); a row of NaN where none was logged.
        classes: Names of the columns of ``probabilities``, by model.
        statistic_names: Names of the columns of ``statistics``, by model.
        records: Number of requests.
        torn: Number of lines and objects whose end is missing or that are damaged.
        dropped: Number of requests that the service could not log, as far as the log tells.
        foreign: Number of lines and files that are not of a prediction log of this version.
        duplicates: Number of records that appear twice, and are counted once.
    """

    id: npt.NDArray[np.str_]
    index: npt.NDArray[np.int64]
    time: npt.NDArray[np.float64]
    model: npt.NDArray[np.str_]
    route: npt.NDArray[np.str_]
    latency: npt.NDArray[np.float64]
    statistics: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    ood: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float32]
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    statistic_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    records: int = 0
    torn: int = 0
    dropped: int = 0
    foreign: int = 0
    duplicates: int = 0

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.id)

    def of_model(self, version: str) -> "PredictionLog":
        """Return the rows of one model; the counts of lines are those of the whole log.

        Raises:
            PredictionLogError: The log has no record of the model.
        """
        rows = self.model == version
        if not rows.any():
            known = ", ".join(sorted(set(self.model.tolist()))) or "no model"
            raise PredictionLogError(
                f"the prediction log has no record of the model {version}, only of {known}: name "
                "a model of the log, or choose another period"
            )
        chosen = {
            name: getattr(self, name)[rows]
            for name in ("id", "index", "time", "model", "route", "latency", "ood")
        }
        for name in ("statistics", "probabilities", "embedding"):
            chosen[name] = _without_padding(getattr(self, name)[rows])
        return replace(self, **chosen, records=len(set(chosen["id"].tolist())))


def read_log(url: str, *, since: float | None = None, until: float | None = None) -> PredictionLog:
    """Read a prediction log.

    Args:
        url: Folder or URL that `eurosat serve --log_url` was given.
        since: Earliest time of a record in seconds since 1970; None for no limit.
        until: First time after the period in seconds since 1970; None for no limit.

    Returns:
        The log's images; none if the log has no record in the period.

    Raises:
        PredictionLogError: The log cannot be read, or the folder holds no log.
    """
    store = open_store(url)
    names, foreign = list_segments(store)
    chosen = [
        name
        for name in names
        if (since is None or began(name) >= since - _LONGEST_SEGMENT)
        and (until is None or began(name) <= until + _LONGEST_SEGMENT)
    ]
    collected = _Collected(foreign=foreign)
    for name, content in _guarded(store, lambda: read_all(store, chosen)):
        collected.add(*unpack(name, content))
    records = [
        record
        for record in collected.records.values()
        if (since is None or record.time >= since) and (until is None or record.time < until)
    ]
    return _columns(sorted(records, key=lambda record: (record.time, record.id)), collected)


def list_segments(store: Store) -> tuple[list[str], int]:
    """List the names of a log's objects, and count the other files of the folder.

    Raises:
        PredictionLogError: The folder cannot be listed, or holds no log.
    """
    names = list(_guarded(store, lambda: iter(store.names())))
    segments = [name for name in names if stem_of(name)]
    if not segments:
        what = f"{len(names)} other files and " if names else ""
        raise PredictionLogError(
            f"{store.url} holds {what}no prediction log: name the folder of 'eurosat serve "
            "--log_url'; a service uploads the first records after --log_seconds"
        )
    return segments, len(names) - len(segments)


def _guarded(store: Store, read: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Turn the errors of a store into errors that name the cause.

    Raises:
        PredictionLogError: The store cannot be read.
    """
    try:
        yield from read()
    except PredictionLogError:
        raise
    except Exception as error:  # each kind of bucket raises its own errors
        raise PredictionLogError(
            f"{store.url} cannot be read ({type(error).__name__}: {error}): check the address and "
            "the rights of this machine's account"
        ) from error


@dataclass
class _Collected:
    """What the segments say."""

    foreign: int
    records: dict[str, Record] = field(default_factory=dict)
    headers: dict[str, Header] = field(default_factory=dict)
    torn: int = 0
    dropped: int = 0
    duplicates: int = 0

    def add(self, lines: bytes, whole: bool) -> None:
        """Read the lines of a segment; ``whole`` says whether the object is undamaged."""
        *complete, rest = lines.split(b"\n")
        self.torn += bool(rest) or not whole
        for line in complete:
            try:
                content = from_line(line)
            except ForeignLineError:
                self.foreign += 1
                continue
            except msgspec.DecodeError:
                self.torn += 1
                continue
            match content:
                case Record() if content.id in self.records:
                    self.duplicates += 1
                case Record():
                    self.records[content.id] = content
                case Header():
                    self.headers[content.model] = content
                case Dropped():
                    self.dropped += content.records


def _columns(records: Sequence[Record], collected: _Collected) -> PredictionLog:
    """Make the columns of a log, a row for each image."""
    counts = [record.n for record in records]

    def each(values: Sequence[Any], dtype: Any) -> Any:
        return np.repeat(np.array(values, dtype), counts)

    embeddings: list[npt.NDArray[np.float32]] = []
    for record in records:
        rows = [np.empty(0, np.float32)] * record.n
        if record.embedding is not None and record.embedded is not None:
            rows[record.embedded] = np.frombuffer(record.embedding, "<f2").astype(np.float32)
        embeddings.extend(row[None] for row in rows)
    return PredictionLog(
        id=each([record.id for record in records], np.str_),
        index=np.concatenate([np.arange(count) for count in counts] or [np.empty(0, np.int64)]),
        time=each([record.time for record in records], np.float64),
        model=each([record.model for record in records], np.str_),
        route=each([record.route for record in records], np.str_),
        latency=each([record.latency for record in records], np.float64),
        statistics=_stack([to_rows(record.statistics, record.n) for record in records]),
        probabilities=_stack([to_rows(record.probabilities, record.n) for record in records]),
        ood=np.concatenate(
            [
                np.full(record.n, np.nan, np.float32)
                if record.ood is None
                else to_rows(record.ood, record.n)[:, 0]
                for record in records
            ]
            or [np.empty(0, np.float32)]
        ),
        embedding=_stack(embeddings),
        classes={model: header.classes for model, header in collected.headers.items()},
        statistic_names={model: header.statistics for model, header in collected.headers.items()},
        records=len(records),
        torn=collected.torn,
        dropped=collected.dropped,
        foreign=collected.foreign,
        duplicates=collected.duplicates,
    )


def _stack(rows: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Stack arrays of shape (n, columns), with NaN where an array has fewer columns."""
    width = max((array.shape[1] for array in rows), default=0)
    stacked = np.full((sum(len(array) for array in rows), width), np.nan, np.float32)
    start = 0
    for array in rows:
        stacked[start : start + len(array), : array.shape[1]] = array
        start += len(array)
    return stacked


def _without_padding(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Remove the columns on the right that have no number."""
    known = np.flatnonzero(~np.isnan(rows).all(axis=0))
    return rows[:, : known[-1] + 1 if len(known) else 0]
