"""Repeated comparison of a growing prediction log with a reference."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eurosat.errors import EuroSATError
from eurosat.monitoring.drift.assessment import Assessment, summarise, utc
from eurosat.monitoring.drift.traffic import Traffic, select
from eurosat.monitoring.drift.windows import Sample, Window, cut, judge, thin

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
    """

    assessment: Assessment | None = None
    windows: int = 0
    waiting: int = 0
    last_run: float | None = None
    error: str = ""

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
            read: Reads the log from a time on, in seconds since 1970.
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

    def run(self, interval: float, stop: threading.Event) -> None:
        """Read the log at an interval, in seconds, until the event is set."""
        while not stop.is_set():
            self.step()
            stop.wait(interval)

    def step(self) -> None:
        """Read the log once, and judge the windows that are full; an error becomes the state's."""
        now = time.time()
        try:
            self.state = self._advance(select(self._read(self._since), self.reference), now)
        except EuroSATError as error:
            self._fail(str(error))
        except Exception as error:  # the service must outlive an error of a bucket's library
            _log.debug("the log cannot be read", exc_info=True)
            self._fail(f"the log cannot be read ({type(error).__name__}: {error})")

    def _fail(self, message: str) -> None:
        if message != self.state.error:
            _log.warning("%s", message)
        state = self.state
        self.state = State(state.assessment, state.windows, state.waiting, state.last_run, message)

    def _advance(self, traffic: Traffic, now: float) -> State:
        new = traffic.rows(
            np.array([str(name) not in self._seen for name in traffic.ids], dtype=bool)
        )
        if len(new):
            waiting = new if self._waiting is None else self._waiting.join(new)
            samples, waiting = cut(waiting, self._size, self._sample)
            judged = [judge(self.reference, sample, self._names) for sample in samples]
            # The state changes only after everything that can fail.
            self._waiting = waiting
            self._windows = (*self._windows, *judged)[-_KEPT:]
            self._sample = samples[-1] if samples else self._sample
            self._remember(new, self.state.windows + len(judged))
        else:
            judged = []
        waiting_now = 0 if self._waiting is None else len(self._waiting)
        sample = self._sample or thin(traffic if self._waiting is None else self._waiting)
        return State(
            summarise(
                self.reference,
                self._windows,
                sample,
                self._size,
                traffic.notes,
                needed=self._size,  # the service judges full windows only
            ),
            self.state.windows + len(judged),
            waiting_now,
            now,
        )

    def _remember(self, new: Traffic, windows: int) -> None:
        """Move the start of the next reading, and forget the ids of records before it."""
        self._seen |= {
            str(name): when for name, when in zip(new.ids, new.times.tolist(), strict=True)
        }
        self._since = max(self._since, max(self._seen.values()) - LATE)
        self._seen = {name: when for name, when in self._seen.items() if when >= self._since}
        _log.info("%d new images, %d windows judged", len(new), windows)
