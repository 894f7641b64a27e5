"""CPU time, memory and start of the service's processes.

prometheus_client has no metrics of processes when several processes share their metrics, and its
own collector knows only the process that answers. Linux has the numbers in ``/proc``; where
``/proc`` is missing, the service has no metrics of its processes.
"""

import mmap
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_PROC = Path("/proc")

_ATTEMPTS = 5

_HIGHEST = memoryview(mmap.mmap(-1, 8)).cast("d")  # processes that are forked later share it
"""Highest CPU time that any process of the service has shown, in ticks; without a lock."""


class _Process(NamedTuple):
    """Numbers of one process from ``/proc/<pid>/stat`` (manual page proc_pid_stat(5))."""

    parent: int
    """Number (PID) of the parent."""

    ticks: int
    """CPU time of the process, in ticks of the system's clock."""

    ended_children_ticks: int
    """CPU time of children that ended and whose end the process has noticed, in ticks."""

    started_ticks: int
    """Start of the process after the start of the system, in ticks."""

    resident_pages: int
    """Pages in memory; several processes may share a page."""


class ProcessCollector(Collector):
    """CPU time and memory, summed over the main process and all processes below it.

    The CPU time of a child that ended moves to its parent, so the sum does not go back when a
    worker is killed. The CPU time of the decoders of an API process that was killed is lost, since
    they get another parent; then the sum stays the same until it has caught up.
    """

    def __init__(self, main: int | None = None, proc: Path = _PROC) -> None:
        """Choose the processes.

        Args:
            main: Number (PID) of the main process; by default the parent that started this process
                by `multiprocessing`, or else this process.
            proc: The folder of the kernel's numbers.
        """
        parent = multiprocessing.parent_process()
        self._main = main or (parent.pid if parent and parent.pid else os.getpid())
        self._proc = proc

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, or nothing where the kernel has no numbers."""
        try:
            everyone = self._everyone()
            uptime = (self._proc / "stat").read_text("ascii")
            started = next(
                int(line.split()[1]) for line in uptime.splitlines() if line.startswith("btime ")
            )
        except (OSError, StopIteration):
            return
        ticks = os.sysconf("SC_CLK_TCK")
        # Prometheus takes a counter that goes back for one that began again at zero.
        _HIGHEST[0] = max(
            _HIGHEST[0],
            sum(process.ticks + process.ended_children_ticks for process in everyone.values()),
        )
        yield CounterMetricFamily(
            "process_cpu_seconds",
            "CPU time of all processes of the service, ended workers included.",
            _HIGHEST[0] / ticks,
        )
        yield GaugeMetricFamily(
            "process_resident_memory_bytes",
            "Memory of all processes of the service; shared pages count once for each process.",
            sum(process.resident_pages for process in everyone.values())
            * os.sysconf("SC_PAGE_SIZE"),
        )
        yield GaugeMetricFamily(
            "process_start_time_seconds",
            "Start of the service's main process, in seconds since 1970.",
            started + everyone[self._main].started_ticks / ticks,
        )

    def _everyone(self) -> dict[int, _Process]:
        """Read the main process and those below it by number, while none of them ends."""
        for _ in range(_ATTEMPTS):
            found = self._family()
            try:
                again = {number: self._read(str(number)) for number in found}
            except OSError:
                continue
            if all(
                again[number].ended_children_ticks == process.ended_children_ticks
                for number, process in found.items()
            ):
                break
        return found

    def _family(self) -> dict[int, _Process]:
        """Read the main process, the workers, the API processes and their decoders."""
        found = {self._main: self._read(str(self._main))}
        children: dict[int, dict[int, _Process]] = {}
        for folder in os.listdir(self._proc):
            if not folder.isdecimal():
                continue
            try:
                process = self._read(folder)
            except OSError:
                continue  # the process has just ended
            children.setdefault(process.parent, {})[int(folder)] = process
        parents = [self._main]
        for parent in parents:
            below = children.get(parent, {})
            found |= below
            parents += below
        return found

    def _read(self, process: str) -> _Process:
        text = (self._proc / process / "stat").read_bytes()
        # The name of the program stands in parentheses, and may hold spaces and parentheses.
        fields = text.rpartition(b")")[2].split()
        # Field 3 of the manual page, the state, is the first after the name.
        parent, user, system, ended_user, ended_system, started, pages = (
            int(fields[number - 3]) for number in (4, 14, 15, 16, 17, 22, 24)
        )
        return _Process(parent, user + system, ended_user + ended_system, started, pages)
