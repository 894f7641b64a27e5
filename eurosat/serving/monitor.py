"""Supervision of the service's processes by the main process."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from eurosat.serving import metrics
from eurosat.serving.heartbeat import Heartbeats
from eurosat.serving.stop import StopOrder

_log = logging.getLogger(__name__)

_MAX_FAILED_STARTS = 5
"""Exits of a process in a row, each before its first heartbeat, that end the service."""

_CHECK_SECONDS = 0.5

_LONGEST_PAUSE = 3.0
"""Longest time from the exit of a process, which fails at every start, to its next start."""

_SUSPENDED_SECONDS = 2.0
"""A check that comes later than this means that the machine or the service was suspended."""


@dataclass
class Supervised:
    """A process that is started again when it exits or hangs."""

    kind: metrics.ProcessKind

    number: int
    """Number of the process among the processes of its kind."""

    heartbeats: Heartbeats
    """The heartbeats of all processes of the kind."""

    start: Callable[[int], BaseProcess]
    """Starts another process of the number."""

    process: BaseProcess

    failed_starts: int = 0

    next_start: float | None = None
    """Time of `time.monotonic` from which the process, which has exited, is started again."""

    def is_alive(self, since: float) -> bool:
        """Return whether the process runs; a process that hangs is killed.

        Args:
            since: As in `eurosat.serving.heartbeat.Heartbeats.hang`.
        """
        if not self.process.is_alive():
            return False
        hang = self.heartbeats.hang(self.number, since)
        if not hang:
            return True
        _log.error("%s %s: it is killed", self, hang)
        self.kill()
        return False

    def kill(self) -> None:
        """End the process, also if it is stopped."""
        self.process.kill()
        self.process.join(1)

    def __str__(self) -> str:
        """Return the name in the log."""
        return f"{self.kind} process {self.number}"


def supervised(
    kind: metrics.ProcessKind,
    heartbeats: Heartbeats,
    start: Callable[[int], BaseProcess],
    processes: Iterable[BaseProcess],
) -> list[Supervised]:
    """Describe the running processes of a kind, in the order of their numbers."""
    return [
        Supervised(kind, number, heartbeats, start, process)
        for number, process in enumerate(processes)
    ]


class Monitor:
    """Replaces processes that exit or hang, and gives up if the service cannot go on.

    The monitor runs in the main thread of the main process, which has no other thread that takes
    locks: API processes are forks, and a fork would copy the lock of a running thread for ever.
    """

    def __init__(self, processes: Sequence[Supervised], stop: StopOrder) -> None:
        """Store what the monitor supervises.

        Args:
            processes: The processes, which are running.
            stop: The order to stop, with which supervision ends.
        """
        self._processes = processes
        self._stop = stop

    def run(self) -> str:
        """Supervise until the service cannot go on, and return the reason.

        Raises:
            Stopped: The order to stop was given.
        """
        resumed, checked = 0.0, time.monotonic()
        while True:
            running = [one.process.sentinel for one in self._processes if one.next_start is None]
            wait(running, timeout=_CHECK_SECONDS)
            earlier, checked = checked, time.monotonic()
            if checked - earlier > _SUSPENDED_SECONDS:
                resumed = checked  # the other processes may have been suspended as well
            for one in self._processes:
                if one.next_start is None and not one.is_alive(resumed):
                    self._note_exit(one)
                    if one.failed_starts >= _MAX_FAILED_STARTS:
                        return f"{one} has exited {_MAX_FAILED_STARTS} times before it was ready"
                if one.next_start is not None and one.next_start <= time.monotonic():
                    self._start(one)

    def _note_exit(self, one: Supervised) -> None:
        """Count the exit, and set the time of the next start: later with every failed start."""
        _log.error("%s exited with code %s", one, one.process.exitcode)
        one.failed_starts = 0 if one.heartbeats.has_begun(one.number) else one.failed_starts + 1
        metrics.PROCESS_EXITS.labels(one.kind).inc()
        metrics.process_ended(one.process.pid or 0)
        one.next_start = time.monotonic() + min(one.failed_starts, _LONGEST_PAUSE)

    def _start(self, one: Supervised) -> None:
        """Start the process again; after a failure, the next check tries again."""
        self._stop.hold()
        try:
            one.process = one.start(one.number)
            one.next_start = None
        except OSError as error:
            _log.error("%s cannot be started: %s", one, error.strerror)
        self._stop.release()
