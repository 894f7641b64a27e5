"""Repeated comparison of a growing prediction log with a reference."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eurosat.errors import DriftError, EuroSATError
from eurosat.monitoring.drift.assessment import Assessment, summarise, utc
from eurosat.monitoring.drift.traffic import Traffic, select
from eurosat.monitoring.drift.windows import Sample, Window, cut, judge, thin
from eurosat.monitoring.log.store import describe

if TYPE_CHECKING:
    from eurosat.monitoring.log.reader import PredictionLog
    from eurosat.monitoring.reference import Reference

    Read = Callable[[float], PredictionLog]

_log = logging.getLogger(__name__)

LATE = 3600.0
"""Seconds that a record may arrive after newer records and still be counted.

Segments of a writer that was killed arrive when another process adopts them, and a clock that is
set back gives records an older time.
"""

_KEPT = 100
"""Windows that the report shows."""


@dataclass(frozen=True)
class State:
    """What the drift service knows; a new state replaces the old one as a whole.

    Attributes:
        assessment: The newest assessment; None before the first successful reading.
        windows: Number of windows that were judged since the start.
        waiting: Images that wait for their window to fill.
        last_run: Time of the last successful reading, in seconds since 1970; None before.
        error: Why the last reading failed; empty if it succeeded.
        started: Time of the service's start, in seconds since 1970.
    """

    assessment: Assessment | None = None
    windows: int = 0
    waiting: int = 0
    last_run: float | None = None
    error: str = ""
    started: float = field(default_factory=time.time)

    def to_json(self) -> dict[str, Any]:
        """Give the answer of the route ``/drift``."""
        found = self.assessment.to_json() if self.assessment else {"verdict": "too few to say"}
        return {
            **found,
            "windows_judged": self.windows,
            "waiting": self.waiting,
            "last_run": None if self.last_run is None else utc(self.last_run),
            "error": self.error or None,
        }


class Watch:
    """Reads the new records of a log at an interval, and judges every window once.

    Windows are cut in the order in which the records arrive, so a record that arrives late joins
    the next window rather than changing a judged one.
    """

    def __init__(
        self,
        reference: "Reference",
        read: "Read",
        statistic_names: Sequence[str],
        *,
        size: int,
        start: float,
    ) -> None:
        """Prepare the first reading.

        Args:
            reference: The reference of the model that the service runs.
            read: Reads the new records of the log from a time on, in seconds since 1970.
            statistic_names: Names of the S input statistics.
            size: Images in a window.
            start: Time of the earliest records, in seconds since 1970.
        """
        self.reference = reference
        self.state = State()
        self._read = read
        self._names = statistic_names
        self._size = size
        self._since = start
        self._seen: dict[str, float] = {}
        self._waiting: Traffic | None = None
        self._windows: tuple[Window, ...] = ()
        self._sample: Sample | None = None
        self._notes: tuple[str, ...] = ()
        self._torn = self._dropped = self._late = 0
        self._refused = ""

    def run(self, interval: float, stop: threading.Event) -> None:
        """Read the log at an interval, in seconds, until the event is set."""
        while not stop.is_set():
            self.step()
            stop.wait(interval)

    def step(self) -> None:
        """Read the log once, and judge the windows that are full; an error becomes the state's."""
        now = time.time()
        try:
            log = self._read(self._since)
            self._take(log, now)
            self._judge(now)
        except EuroSATError as error:
            self._fail(str(error))
        except Exception as error:  # the service must outlive an error of a bucket's library
            _log.debug("the log cannot be read", exc_info=True)
            self._fail(f"the log cannot be read ({describe(error)})")

    def _fail(self, message: str) -> None:
        if message != self.state.error:
            _log.warning("%s", message)
        self.state = replace(self.state, error=message)

    def _take(self, log: "PredictionLog", now: float) -> None:
        """Add the new predictions of our model to the images that wait.

        Raises:
            DriftError: The predictions cannot be compared with the reference. The error is repeated
                until a reading has predictions that can be compared.
        """
        if self._waiting is not None:
            self._late += log.outside
        self._torn += log.torn
        self._dropped += log.dropped
        if not (log.model == self.reference.model_version).any():
            if self._refused:
                raise DriftError(self._refused)
            # While two models share the traffic, some readings have records of one model only.
            recent = any(when >= now - LATE for when in self._seen.values())
            if self._waiting is not None and (recent or not len(log)):
                return
        log = replace(log, torn=self._torn, dropped=self._dropped)
        try:
            traffic = select(log, self.reference)
        except DriftError as error:
            self._refused = str(error)
            raise
        self._refused, self._notes = "", traffic.notes
        new = traffic.rows(
            np.array([str(name) not in self._seen for name in traffic.ids], dtype=bool)
        )
        self._waiting = new if self._waiting is None else self._waiting.join(new)
        if len(new):
            self._remember(new)

    def _judge(self, now: float) -> None:
        """Judge the windows that are full, and replace the state."""
        assert self._waiting is not None
        samples, waiting = cut(self._waiting, self._size, self._sample)
        # The report shows no more windows; a service may have logged thousands before the start.
        newest_samples = samples[-_KEPT:]
        judged = [judge(self.reference, sample, self._names) for sample in newest_samples]
        windows = (*self._windows, *judged)[-_KEPT:]
        newest = samples[-1] if samples else self._sample
        assessment = summarise(
            self.reference,
            windows,
            newest or thin(waiting),
            self._size,
            (*self._notes, *self._late_note()),
            needed=self._size,  # the service judges full windows only
        )
        # Everything changes only after everything that can fail.
        self._waiting, self._windows, self._sample = waiting, windows, newest
        count = self.state.windows + len(judged)
        self.state = replace(
            self.state,
            assessment=assessment,
            windows=count,
            waiting=len(waiting),
            last_run=now,
            error="",
        )
        if judged:
            _log.info("%d windows judged: %s", count, assessment.sentence)

    def _late_note(self) -> tuple[str, ...]:
        if not self._late:
            return ()
        return (
            f"{self._late:,} records that arrived since the start are more than an hour older than "
            "the newest record, and are left out: a clock is wrong, a service was cut off from the "
            "log, or a purge has rewritten old objects.",
        )

    def _remember(self, new: Traffic) -> None:
        """Move the start of the next reading, and forget the ids of records before it."""
        self._seen |= {
            str(name): when for name, when in zip(new.ids, new.times.tolist(), strict=True)
        }
        self._since = max(self._since, max(self._seen.values()) - LATE)
        self._seen = {name: when for name, when in self._seen.items() if when >= self._since}
