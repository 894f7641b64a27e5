"""What differs between operating systems.

Linux has everything that this module asks for. macOS lacks control groups and sets of cores, and
no verb depends on them. Windows cannot ask a process to end by a signal, does not tell a process
that its parent has ended, and lacks Unix domain sockets in ZeroMQ; `refuse_windows` ends the verbs
that depend on these.
"""

import logging
import math
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from eurosat.errors import EuroSATError, PlatformError

_log = logging.getLogger(__name__)

WINDOWS = sys.platform == "win32"

ENDING_SIGNALS: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that ask a process to end. Windows lacks SIGHUP, which arrives when a terminal closes."""

KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)
"""Signal that ends a process at once; on Windows, SIGTERM does."""

_SHARED_MEMORY = Path("/dev/shm")


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
    """The process that started this process by `multiprocessing`, on Linux or macOS.

    `multiprocessing` itself takes the parent for alive until all processes that were forked from
    the parent have ended.
    """

    def __init__(self) -> None:
        """Remember the parent, which may have ended by now."""
        import multiprocessing  # a command that refuses Windows imports nothing before

        parent = multiprocessing.parent_process()
        self._number = parent.pid if parent else os.getppid()

    @property
    def has_ended(self) -> bool:
        """Whether the parent has ended: the system gives an orphan another parent."""
        return os.getppid() != self._number


def find_temporary_folder() -> None:
    """Put temporary files into shared memory if no folder for temporary files can be written.

    Processes that this process starts do the same.

    Raises:
        PlatformError: The shared memory cannot be written either.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        if not os.access(_SHARED_MEMORY, os.W_OK):
            raise PlatformError(
                f"no folder for temporary files can be written ({error.strerror}): set TMPDIR to a "
                "folder that can be written and has free space"
            ) from error
        os.environ["TMPDIR"] = str(_SHARED_MEMORY)
        _log.warning(
            "no folder for temporary files can be written (%s): temporary files lie in %s, which "
            "takes memory; set TMPDIR to another folder",
            error.strerror,
            _SHARED_MEMORY,
        )


def socket_address(path: Path) -> str:
    """ZeroMQ's address of a Unix domain socket, through which processes of one machine talk.

    Args:
        path: The socket.

    Raises:
        EuroSATError: The path is longer than the kernel allows (unix(7): 108 bytes with a zero at
            the end on Linux, 104 on macOS).
    """
    longest = 107 if sys.platform == "linux" else 103
    if len(os.fsencode(path)) > longest:
        raise EuroSATError(
            f"the path of the socket {path} is longer than {longest} bytes: name a shorter folder "
            "in the environment variable TMPDIR, such as /tmp"
        )
    return f"ipc://{path}"


def available_cores(root: Path = Path("/")) -> int:
    """Number of cores that this process may use, at least 1.

    A container often has fewer cores than its machine: by the set of cores (``docker run
    --cpuset-cpus``, ``taskset``), or by a quota of time (``docker run --cpus``, ``limits.cpu`` of
    Kubernetes, ``CPUQuota`` of systemd), which is rounded up.

    Args:
        root: Folder that holds ``proc`` and the mounted control groups.
    """
    return max(1, min([_allowed_cores(), *map(math.ceil, _quotas(root))]))


def limit_threads() -> None:
    """Let libraries use no more threads than a quota of cores allows.

    Libraries such as torch and OpenBLAS know the set of cores and no quota. They read
    ``OMP_NUM_THREADS`` when they are imported, and child processes inherit the variable. A value
    that the user has set is kept.
    """
    if (cores := available_cores()) < _allowed_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def _allowed_cores() -> int:
    """Number of cores in the set of cores of this process."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of this process's control group and of the groups around it.

    Version 2 has one hierarchy of groups; version 1 has a hierarchy with the controller ``cpu``; a
    hybrid system has both. ``/proc/self/cgroup`` names the group in each hierarchy, and
    ``/proc/self/mountinfo`` says where the hierarchy is mounted (cgroups(7), proc_pid_cgroup(5)).
    """
    paths: dict[str, PurePosixPath] = {}  # by controller; version 2 has no name here
    for line in _lines(root / "proc/self/cgroup"):
        with suppress(ValueError):
            _, controllers, group = line.split(":", 2)
            paths |= dict.fromkeys(controllers.split(","), PurePosixPath(group))
    for line in _lines(root / "proc/self/mountinfo"):
        with suppress(ValueError):
            fields, _, kind = line.partition(" - ")
            _, _, _, top, mounted, *_ = map(_unescaped, fields.split(" "))
            file_system, *_, options = kind.split(" ")  # the source between the two may be empty
            match file_system:
                case "cgroup2":
                    path, read = paths.get(""), _quota
                case "cgroup" if "cpu" in options.split(","):
                    path, read = paths.get("cpu"), _quota_1
                case _:
                    continue
            # A container may see its own group only, mounted as the top.
            inner = path.relative_to(top) if path else PurePosixPath()
            for folder in (inner, *inner.parents):
                # The outermost group has no files of a quota.
                with suppress(OSError, ValueError, ZeroDivisionError):
                    quota, period = read(root / mounted.lstrip("/") / folder)
                    if quota.isdecimal():  # not "max", nor -1 in version 1
                        yield int(quota) / int(period)


def _lines(file: Path) -> list[str]:
    """The lines of a file of the kernel, which need not be UTF-8; none where it is missing."""
    try:
        return os.fsdecode(file.read_bytes()).split("\n")
    except OSError:  # not Linux
        return []


def _unescaped(name: str) -> str:
    """The name of a mount, in which the kernel writes white space and backslashes as octals."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), name)


def _quota(group: Path) -> list[str]:
    """The quota and the period of a control group of version 2."""
    return (group / "cpu.max").read_text("ascii").split()


def _quota_1(group: Path) -> list[str]:
    """The quota and the period of a control group of version 1."""
    files = (group / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
    return [file.read_text("ascii").strip() for file in files]


def memory_gib() -> float | None:
    """Main memory in GiB, rounded to a tenth; None on Windows."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError):
        return None
