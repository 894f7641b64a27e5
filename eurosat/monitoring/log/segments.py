"""Which objects of a store are segments of a prediction log, and of which period."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from eurosat.errors import PredictionLogError
from eurosat.monitoring.log.store import Store, began, day_of, describe, stem_of

_DAY = 86_400.0

_LONGEST_SEGMENT = _DAY
"""Longest time in seconds between a segment's name and its records.

A segment is open for minutes; the rest is for clocks that are set while a segment is open.
"""


def list_segments(
    store: Store, since: float | None = None, until: float | None = None
) -> tuple[list[str], int]:
    """List the names of a log's objects, and count the other files.

    Args:
        store: The log.
        since: List the objects that may have records at or after this time; None for no limit.
        until: List the objects that may have records before this time; None for no limit.

    Returns:
        The names, sorted, and the number of other files in the folders that were listed.

    Raises:
        PredictionLogError: The folder cannot be listed, or holds no log.
    """
    first = -math.inf if since is None else since - _LONGEST_SEGMENT
    last = math.inf if until is None else until + _LONGEST_SEGMENT
    days: list[tuple[str, float]] = []
    if since is not None or until is not None:
        folders = guarded(store, store.folders)
        days = [(name, day) for name in folders if (day := day_of(name)) is not None]
    listed = [name for name, day in days if first - _DAY < day <= last] if days else [""]
    names = [name for each in listed for name in guarded(store, partial(store.names, each))]
    segments = [name for name in names if stem_of(name)]
    foreign = len(names) - len(segments)
    if not segments and not days:
        what = f"{len(names)} other files and " if names else ""
        raise PredictionLogError(
            f"{store.url} holds {what}no prediction log: name the folder of 'eurosat serve "
            "--log_url'; a service uploads the first records after --log_seconds"
        )
    if days:
        segments = [name for name in segments if first <= began(name) <= last]
    return segments, foreign


def guarded(store: Store, read: Callable[[], Iterable[Any]]) -> Iterator[Any]:
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
            f"{store.url} cannot be read ({describe(error)}): check the address and "
            "the rights of this machine's account"
        ) from error
