"""What differs between operating systems.

Linux has everything that this module asks for. macOS lacks control groups and sets of cores, and
no verb depends on them. Windows cannot ask a process to end by a signal, does not tell a process
that its parent has ended, and lacks Unix domain sockets in ZeroMQ; `refuse_windows` ends the verbs
that depend on these.
"""

import math
import os
import signal
import sys
from pathlib import Path

from eurosat.errors import PlatformError

WINDOWS = sys.platform == "win32"

ENDING_SIGNALS: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that ask a process to end. Windows lacks SIGHUP, which arrives when a terminal closes."""

KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)
"""Signal that ends a process at once; on Windows, SIGTERM does."""

_CGROUP = Path("/sys/fs/cgroup")


def refuse_windows(verb: str) -> None:
    """Refuse a verb that cannot work on Windows.

    Args:
        verb: The verb, for the message.

    Raises:
        PlatformError: This is Windows.
    """
    if WINDOWS:
        raise PlatformError(
            f"'eurosat {verb}' ends its processes by signals, which Windows does not have: run the "
            "command in WSL 2 (the Windows Subsystem for Linux), or in a Linux container"
        )


class ParentProcess:
    """The process that started this process, on Linux or macOS."""

    def __init__(self) -> None:
        """Remember the parent, which must still run."""
        self._number = os.getppid()

    @property
    def has_ended(self) -> bool:
        """Whether the parent has ended: the system gives an orphan another parent."""
        return os.getppid() != self._number


def socket_address(path: Path) -> str:
    """ZeroMQ's address of a Unix domain socket, through which processes of one machine talk.

    Args:
        path: The socket; the kernel accepts paths of about 100 bytes.
    """
    return f"ipc://{path}"


def available_cores(cgroup: Path = _CGROUP) -> int:
    """Number of cores that this process may use, at least 1.

    A container often has fewer cores than its machine: by the set of cores (``docker run
    --cpuset-cpus``), or by a quota of time (``docker run --cpus``, ``limits.cpu`` of Kubernetes),
    which is rounded up.

    Args:
        cgroup: Folder of the process's control group, version 2 (``cpu.max``) or 1.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text("utf-8").split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text("utf-8")
                for name in ("quota", "period")
            )
        except OSError:
            return cores
    if not quota.strip().isdecimal():  # "max", or -1 in version 1
        return cores
    return max(1, min(cores, math.ceil(int(quota) / int(period))))


def memory_gib() -> float | None:
    """Main memory in GiB, rounded to a tenth; None on Windows."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError):
        return None
