"""Supervision of the service's processes by the main process."""

import logging
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from typing import Any

from litserve.utils import WorkerSetupStatus

from eurosat.serving import metrics
from eurosat.serving.heartbeat import Heartbeats
from eurosat.serving.stop import StopOrder
from eurosat.serving.worker_states import WorkerStates

_log = logging.getLogger(__name__)

_MAX_FAILED_STARTS = 5
"""Worker exits in a row, each before the worker could answer, that end the service."""

_CHECK_SECONDS = 0.5

_SUSPENDED_SECONDS = 2.0
"""A check that comes later than this means that the machine or the service was suspended."""


class Monitor:
    """Replaces workers that exit or hang, and gives up if the service cannot go on."""

    def __init__(
        self,
        workers: list[Any],
        states: WorkerStates,
        api_processes: Mapping[int, Any],
        api_heartbeats: Heartbeats,
        start_worker: Callable[[int], Any],
        stop: StopOrder,
    ) -> None:
        """Store what the monitor supervises.

        Args:
            workers: The worker processes by number; the monitor replaces entries of the list.
            states: The states and heartbeats of the workers.
            api_processes: The API processes by number.
            api_heartbeats: The heartbeats of the API processes.
            start_worker: Counts the exit of a worker, and starts the next worker of its number.
            stop: The order to stop, with which supervision ends.
        """
        self._workers = workers
        self._states = states
        self._api_processes = api_processes
        self._api_heartbeats = api_heartbeats
        self._start_worker = start_worker
        self._stop = stop
        self._failures = 0

    def run(self) -> str | None:
        """Supervise until the order to stop.

        Returns:
            The reason why the service cannot go on; None after the order to stop.
        """
        resumed = 0.0
        while True:
            before = time.monotonic()
            processes = [*self._workers, *self._api_processes.values()]
            wait([process.sentinel for process in processes], timeout=_CHECK_SECONDS)
            if time.monotonic() - before > _SUSPENDED_SECONDS:
                resumed = time.monotonic()  # the other processes may have been suspended as well
            reason = None
            for number, process in self._api_processes.items():
                hang = self._api_heartbeats.hang(number, resumed)
                if _has_ended(f"API process {number}", process, hang):
                    reason = "an API process ended"
            for number, process in enumerate(self._workers):
                if self._stop.given:
                    return None
                hang = self._states.heartbeats.hang(number, resumed)
                if not reason and _has_ended(f"worker {number}", process, hang):
                    reason = self._replace(number, process)
            if self._stop.given:
                return None
            if reason:
                return reason

    def _replace(self, number: int, process: Any) -> str | None:
        """Start another worker; return the reason if no further worker is worth a start."""
        ready = self._states.values()[number] == WorkerSetupStatus.READY
        self._failures = 0 if ready else self._failures + 1
        metrics.WORKER_EXITS.inc()
        metrics.process_ended(process.pid)
        if self._failures >= _MAX_FAILED_STARTS:
            return "workers exit before they can answer"
        time.sleep(min(self._failures, 3))
        if not self._stop.given:
            self._workers[number] = self._start_worker(number)
        return None


def _has_ended(name: str, process: Any, hang: str | None) -> bool:
    """Return whether a process has exited; a process that hangs is killed."""
    if process.is_alive():
        if not hang:
            return False
        _log.error("%s %s: it is killed", name, hang)
        process.kill()  # ends a stopped process as well
        process.join(1)
    _log.error("%s exited with code %s", name, process.exitcode)
    return True
