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
        resumed = 0.0
        while True:
            before = time.monotonic()
            wait([one.process.sentinel for one in self._processes], timeout=_CHECK_SECONDS)
            if time.monotonic() - before > _SUSPENDED_SECONDS:
                resumed = time.monotonic()  # the other processes may have been suspended as well
            for one in self._processes:
                if not one.is_alive(resumed) and (reason := self._replace(one)):
                    return reason

    def _replace(self, one: Supervised) -> str | None:
        """Start another process; return the reason if no further process is worth a start."""
        _log.error("%s exited with code %s", one, one.process.exitcode)
        began = one.heartbeats.has_begun(one.number)
        one.failed_starts = 0 if began else one.failed_starts + 1
        metrics.PROCESS_EXITS.labels(one.kind).inc()
        metrics.process_ended(one.process.pid or 0)
        if one.failed_starts >= _MAX_FAILED_STARTS:
            return f"{one} has exited {_MAX_FAILED_STARTS} times before it was ready"
        time.sleep(min(one.failed_starts, 3))
        self._stop.hold()
        try:
            one.process = one.start(one.number)
        except OSError as error:  # the next check tries again
            _log.error("%s cannot be started: %s", one, error.strerror)
        self._stop.release()
        return None
