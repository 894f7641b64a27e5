"""Reading a prediction log back into columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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
from eurosat.monitoring.log.segments import guarded, list_segments
from eurosat.monitoring.log.store import open_store, read_all, unpack

_ATTEMPTS = 10
"""Listings of a log that a purge changes at the same time."""


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
        embedding: Features of the M images whose features were logged, float32, shape (M, F).
        embedded: For each image the number of its row in ``embedding``, -1 if it has none, int64,
            shape (N,). A service logs few embeddings, and a column for all images would be large.
        classes: Names of the columns of ``probabilities``, by model.
        statistic_names: Names of the columns of ``statistics``, by model.
        records: Number of requests.
        torn: Number of lines and objects whose end is missing or that are damaged.
        dropped: Number of requests that the service could not log, as far as the log tells.
        foreign: Number of lines and files that are not of a prediction log of this version.
        duplicates: Number of records that appear twice, and are counted once.
        outside: Number of records outside of the period in the objects that were read.
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
    embedded: npt.NDArray[np.int64]
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    statistic_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    records: int = 0
    torn: int = 0
    dropped: int = 0
    foreign: int = 0
    duplicates: int = 0
    outside: int = 0

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
        for name in ("statistics", "probabilities"):
            chosen[name] = _without_padding(getattr(self, name)[rows])
        logged = rows & (self.embedded >= 0)
        chosen["embedding"] = _without_padding(self.embedding[self.embedded[logged]])
        chosen["embedded"] = _numbered(logged[rows])
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
    return LogReader(url).read(since=since, until=until)


class LogReader:
    """Reads a log that grows: each reading gives the records that no reading has given before.

    Objects never change, so each object is read once, and a reading lists only the folders of the
    days of its period.
    """

    def __init__(self, url: str) -> None:
        """Open a log; nothing is read yet.

        Raises:
            PredictionLogError: The URL is unknown, or needs a package that is not installed.
        """
        self._store = open_store(url)
        self._known: frozenset[str] = frozenset()

    def read(self, *, since: float | None = None, until: float | None = None) -> PredictionLog:
        """Read the objects that are new.

        Args:
            since: Earliest time of a record in seconds since 1970; None for no limit.
            until: First time after the period in seconds since 1970; None for no limit.

        Returns:
            The images of the new objects; the counts are those of the new objects, too.

        Raises:
            PredictionLogError: The log cannot be read, or the folder holds no log. The next reading
                repeats this reading.
        """
        collected = _Collected(since, until)
        names: list[str] = []
        read = set(self._known)
        for attempt in range(1, _ATTEMPTS + 1):
            names, files = list_segments(self._store, since, until)
            new = [name for name in names if name not in read]
            try:
                for name, content in guarded(self._store, partial(read_all, self._store, new)):
                    collected.add(*unpack(name, content))
                    read.add(name)
                collected.foreign += files
                break
            except PredictionLogError as error:
                # A purge replaces objects after they were listed.
                if attempt == _ATTEMPTS or not isinstance(error.__cause__, FileNotFoundError):
                    raise
        self._known = frozenset(names)  # an object that is listed no more is never read again
        return _columns(collected)


@dataclass
class _Collected:
    """What the segments say of a period."""

    since: float | None
    until: float | None
    foreign: int = 0
    records: dict[str, Record] = field(default_factory=dict)
    headers: dict[str, Header] = field(default_factory=dict)
    torn: int = 0
    dropped: int = 0
    duplicates: int = 0
    outside: int = 0

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
                case Record() if self._in_period(content.time):
                    self.records[content.id] = content
                case Record():
                    self.outside += 1
                case Header():
                    self.headers[content.model] = content
                case Dropped():
                    self.dropped += content.records

    def _in_period(self, time: float) -> bool:
        return (self.since is None or time >= self.since) and (
            self.until is None or time < self.until
        )


def _columns(collected: _Collected) -> PredictionLog:
    """Make the columns of a log, a row for each image."""
    records = sorted(collected.records.values(), key=lambda record: (record.time, record.id))
    counts = [record.n for record in records]

    def each(values: Sequence[Any], dtype: Any) -> Any:
        return np.repeat(np.array(values, dtype), counts)

    index = np.concatenate([np.arange(count) for count in counts] or [np.empty(0, np.int64)])
    embeddings = [
        np.frombuffer(record.embedding, "<f2").astype(np.float32)[None]
        for record in records
        if record.embedding is not None
    ]
    return PredictionLog(
        id=each([record.id for record in records], np.str_),
        index=index,
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
        embedded=_numbered(
            each([-1 if record.embedded is None else record.embedded for record in records], int)
            == index
        ),
        classes={model: header.classes for model, header in collected.headers.items()},
        statistic_names={model: header.statistics for model, header in collected.headers.items()},
        records=len(records),
        torn=collected.torn,
        dropped=collected.dropped,
        foreign=collected.foreign,
        duplicates=collected.duplicates,
        outside=collected.outside,
    )


def _numbered(logged: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Number the images whose features were logged; the other images have -1."""
    return np.where(logged, np.cumsum(logged) - 1, -1)


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
