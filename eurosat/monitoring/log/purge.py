"""Removing records from a prediction log."""

from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec

from eurosat.errors import PredictionLogError
from eurosat.monitoring.log.records import ForeignLineError, Record, from_line
from eurosat.monitoring.log.segments import list_segments
from eurosat.monitoring.log.store import (
    began,
    describe,
    open_store,
    pack,
    read_all,
    stem_of,
    unpack,
)


@dataclass(frozen=True)
class Purged:
    """What a purge did.

    Attributes:
        records: Number of removed records.
        objects: Number of objects that were deleted or replaced.
        damaged: Number of objects that could not be read to their end.
        foreign: Number of lines that were not searched, because they are of a newer version.
    """

    records: int
    objects: int
    damaged: int
    foreign: int


def purge(url: str, *, ids: Collection[str] = (), before: float | None = None) -> Purged:
    """Remove records from a log for good.

    Objects never change, so an object with a removed record is replaced: a new object with the
    other lines is written before the old object is deleted. If the purge is interrupted between
    the two, readers count the records of both objects once, and a second purge removes the rest.

    An object that has no record left is deleted. Only the log's last object is replaced by an
    object with its header, so that an empty log can be told from a folder that holds no log.

    Torn lines and the unreadable rest of a damaged object have no time of their own. A purge by
    time removes them if their segment began before the time.

    Args:
        url: Folder or URL of the log.
        ids: Ids of requests to remove.
        before: Remove all requests before this time, in seconds since 1970.

    Raises:
        PredictionLogError: The log cannot be read or changed, or the folder holds no log.
    """
    store = open_store(url)
    names, _ = list_segments(store)
    remaining = len(names)
    records = objects = damaged = foreign = 0
    try:
        for name, content in read_all(store, names):
            unpacked, whole = unpack(name, content)
            old = before is not None and began(name) < before
            found = _divide(unpacked, ids, before, old)
            damaged, foreign = damaged + (not whole), foreign + found.foreign
            if not (found.removed or found.torn or (old and not whole)):
                continue
            if found.records or found.foreign or remaining == 1:
                new, packed = pack(stem_of(name) or "", b"".join(found.kept))
                if new == name:
                    continue  # only gzip's checksum is damaged, and no line is removed
                store.put(new, packed)
            else:
                remaining -= 1
            store.delete(name)
            records, objects = records + found.removed, objects + 1
    except Exception as error:  # each kind of bucket raises its own errors
        raise PredictionLogError(
            f"{url} cannot be purged ({describe(error)}), and {records} records are "
            "removed: check the rights of this machine's account, and repeat the command"
        ) from error
    return Purged(records, objects, damaged, foreign)


@dataclass
class _Divided:
    """The lines of an object that stay, and the numbers of lines of each kind.

    Attributes:
        kept: The lines that stay.
        records: Number of records that stay.
        removed: Number of records that do not stay.
        torn: Number of unreadable lines that do not stay.
        foreign: Number of lines of a newer version, which stay.
    """

    kept: list[bytes] = field(default_factory=list)
    records: int = 0
    removed: int = 0
    torn: int = 0
    foreign: int = 0


def _divide(lines: bytes, ids: Collection[str], before: float | None, old: bool) -> _Divided:
    """Divide the lines of an object into those that stay and those that are removed.

    Args:
        lines: The lines.
        ids: Ids of requests to remove.
        before: Remove all requests before this time, in seconds since 1970.
        old: Whether torn lines are removed.
    """
    found = _Divided()
    for line in lines.splitlines(keepends=True):
        try:
            content = from_line(line.rstrip(b"\n"))
        except ForeignLineError:
            found.foreign += 1
        except msgspec.DecodeError:
            if old:
                found.torn += 1
                continue
        else:
            if isinstance(content, Record):
                if content.id in ids or (before is not None and content.time < before):
                    found.removed += 1
                    continue
                found.records += 1
        found.kept.append(line)
    return found
