"""Removing records from a prediction log."""

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from eurosat.errors import PredictionLogError
from eurosat.monitoring.log.reader import list_segments
from eurosat.monitoring.log.records import ForeignLineError, Record, from_line
from eurosat.monitoring.log.store import open_store, pack, read_all, stem_of, unpack


@dataclass(frozen=True)
class Purged:
    """What a purge did.

    Attributes:
        records: Number of removed records.
        objects: Number of objects that were deleted or replaced.
        damaged: Number of objects that could not be read to their end.
    """

    records: int
    objects: int
    damaged: int


def purge(url: str, *, ids: Collection[str] = (), before: float | None = None) -> Purged:
    """Remove records from a log for good.

    Objects never change, so an object with a removed record is replaced: a new object with the
    other lines is written before the old object is deleted. If the purge is interrupted between
    the two, readers count the records of both objects once, and a second purge removes the rest.

    Args:
        url: Folder or URL of the log.
        ids: Ids of requests to remove.
        before: Remove all requests before this time, in seconds since 1970.

    Raises:
        PredictionLogError: The log cannot be read or changed, or the folder holds no log.
    """
    store = open_store(url)
    names, _ = list_segments(store)
    records = objects = damaged = 0
    try:
        for name, content in read_all(store, names):
            lines, whole = unpack(name, content)
            damaged += not whole
            kept, removed, left = [], 0, 0
            for line in lines.splitlines(keepends=True):
                record = _record(line)
                if record is not None and _chosen(record, ids, before):
                    removed += 1
                else:
                    kept.append(line)
                    left += record is not None
            if not removed:
                continue
            if left:
                store.put(*pack(stem_of(name) or "", b"".join(kept)))
            store.delete(name)
            records, objects = records + removed, objects + 1
    except Exception as error:  # each kind of bucket raises its own errors
        raise PredictionLogError(
            f"{url} cannot be purged ({type(error).__name__}: {error}), and {records} records are "
            "removed: check the rights of this machine's account, and repeat the command"
        ) from error
    return Purged(records, objects, damaged)


def _record(line: bytes) -> Record | None:
    try:
        content = from_line(line.rstrip(b"\n"))
    except (ForeignLineError, msgspec.DecodeError):
        return None
    return content if isinstance(content, Record) else None


def _chosen(record: Record, ids: Collection[str], before: float | None) -> bool:
    return record.id in ids or (before is not None and record.time < before)
