"""The spool: the local folder in which records wait for their upload.

A segment is a file of lines that one process appends to. Its name tells its state and its writer:

- ``TIME-ID.NAMESPACE.PID.START.open``: process PID may still append. START is the process's start
  in the clock ticks of the kernel, so that a later process with the same number is another writer.
  NAMESPACE stands for the boot of the machine and the container: two containers that share a
  folder may both have a process 7.
- ``TIME-ID.jsonl``: nobody appends any more. The segment waits for its upload.

A segment changes from the first state to the second by one rename, which its writer makes when the
segment is full or old. If the writer has ended, whoever uploads the spool makes the rename. The
following rules need no lock, and hold wherever a process is killed:

1. A writer of the own namespace has ended if the process is gone, is a zombie, or has another
   start.
2. The writer of another namespace cannot be looked up. It counts as ended if the file has not
   changed for `ABANDONED_SECONDS`, because a living writer closes every segment long before.
3. If two processes rename or upload a segment at the same time, the second finds nothing to rename,
   or uploads the same content to the same name.
4. A segment is deleted after the store has it. If the process is killed in between, the next upload
   finds the name taken, and deletes the segment.
"""

import hashlib
import os
import re
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from eurosat.errors import PredictionLogError

SEGMENT_BYTES = 4 * 2**20
"""Largest size of a segment: 4 MiB, which a bucket takes in one simple upload (<= 5 MB)."""

ABANDONED_SECONDS = 600.0
"""Time after which an unchanged segment of another container or boot counts as abandoned."""

_KEPT_FREE_BYTES = 32 * 2**20
"""Space that the spool leaves free on its disk, for the service's other files.

Prometheus' client maps files into memory, and a process is killed if such a file cannot grow.
"""

_MAX_FILES = 4096
"""Largest number of files in the spool, which is listed before each new segment."""

_OPEN = re.compile(r"(?P<name>\d{8}T\d{6}-[0-9a-f]{16})\.(?P<owner>[0-9a-f]{8}\.\d+\.\d+)\.open")
_CLOSED = re.compile(r"\d{8}T\d{6}-[0-9a-f]{16}\.jsonl")


@dataclass(frozen=True)
class Usage:
    """The content of a spool.

    Attributes:
        files: Number of segments.
        size: Bytes of all segments.
        reserved: Bytes of all segments when each open segment is full.
        oldest: Seconds since 1970 when the oldest segment began; None if the spool is empty.
    """

    files: int
    size: int
    reserved: int
    oldest: float | None


class Spool:
    """A local folder of segments, which several processes share."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Describe a spool; nothing is written before `create`.

        Args:
            folder: The folder; it should belong to one service, or to copies of one service.
            max_bytes: Largest total size of the segments.
        """
        self.folder = folder
        self.max_bytes = max_bytes

    def create(self) -> None:
        """Create the folder, which other users cannot read.

        Raises:
            PredictionLogError: The folder cannot be created or written, or is another user's.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.folder.stat().st_uid != os.getuid():
                raise PredictionLogError(
                    f"the spool {self.folder} belongs to another user: choose another --log_spool"
                )
            probe = self.folder / f".{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise PredictionLogError(
                f"the spool {self.folder} cannot be written ({error.strerror}): choose another "
                "--log_spool"
            ) from error

    def usage(self) -> Usage:
        """Measure the spool."""
        names: list[str] = []
        size = reserved = 0
        for path in self._files():
            is_open = _OPEN.fullmatch(path.name)
            if is_open or _CLOSED.fullmatch(path.name):
                with suppress(FileNotFoundError):  # uploaded since
                    length = path.stat().st_size
                    size += length
                    reserved += max(length, SEGMENT_BYTES if is_open else 0)
                    names.append(path.name)
        # A name begins with its time.
        oldest = began_at(min(names)) if names else None
        return Usage(len(names), size, reserved, oldest)

    def shortage(self) -> str | None:
        """Return the reason why no further segment fits, or None if a segment fits."""
        usage = self.usage()
        if usage.reserved + SEGMENT_BYTES > self.max_bytes:
            return (
                f"{usage.size / 2**20:.0f} MiB wait in {self.folder}, and at most "
                f"{self.max_bytes / 2**20:.0f} MiB may: restore the upload, or raise "
                "--log_spool_mib"
            )
        if usage.files >= _MAX_FILES:
            return f"{usage.files} segments wait in {self.folder}: restore the upload"
        system = os.statvfs(self.folder)
        free = system.f_bavail * system.f_frsize
        if free < _KEPT_FREE_BYTES + SEGMENT_BYTES:
            return (
                f"the disk of {self.folder} has {free / 2**20:.0f} MiB left: free some space, or "
                "choose another --log_spool"
            )
        return None

    def new_segment(self) -> Path:
        """Name a segment that this process may open."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        owner = f"{_namespace()}.{os.getpid()}.{_start_of(os.getpid()) or 0}"
        return self.folder / f"{now}-{uuid.uuid4().hex[:16]}.{owner}.open"

    def close(self, segment: Path) -> None:
        """Rename an open segment, so that it is uploaded; delete an empty segment.

        Raises:
            FileNotFoundError: The segment is gone.
        """
        found = _OPEN.fullmatch(segment.name)
        assert found is not None, segment
        if segment.stat().st_size == 0:
            segment.unlink()
        else:
            segment.rename(segment.with_name(f"{found['name']}.jsonl"))

    def adopt(self) -> int:
        """Close the segments whose writers have ended, and return their number."""
        adopted = 0
        for segment in self._files():
            found = _OPEN.fullmatch(segment.name)
            with suppress(FileNotFoundError):  # another process was faster
                if found and _has_ended(found["owner"], segment.stat().st_mtime):
                    self.close(segment)
                    adopted += 1
        return adopted

    def closed(self) -> list[Path]:
        """List the segments that wait for their upload, the oldest first."""
        return sorted(path for path in self._files() if _CLOSED.fullmatch(path.name))

    def _files(self) -> list[Path]:
        """List the folder, which is empty if another program has removed the folder."""
        try:
            return [self.folder / name for name in os.listdir(self.folder)]
        except FileNotFoundError:
            return []


def began_at(name: str) -> float:
    """Seconds since 1970 when a segment began, from its name."""
    return datetime.strptime(name[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()


def _has_ended(owner: str, changed: float) -> bool:
    """Whether a segment's writer has ended.

    Args:
        owner: Namespace, process number and start, from the segment's name.
        changed: Seconds since 1970 when the segment last changed.
    """
    namespace, pid, start = owner.split(".")
    if namespace != _namespace():
        return abs(time.time() - changed) > ABANDONED_SECONDS  # the clock may have been set
    if not Path("/proc/self/stat").exists():  # macOS
        return not _exists(int(pid))
    return _start_of(int(pid)) != int(start)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's process
    return True


def _start_of(pid: int) -> int | None:
    """Start of a process in clock ticks since the boot; None if it has ended, or without /proc.

    Raises:
        OSError: The system cannot tell, for example because this process has too many open files.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name in brackets may hold spaces
    return None if fields[0] in "ZX" else int(fields[19])


@cache
def _namespace() -> str:
    """Eight hexadecimal digits for this boot of the machine and this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8")
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # macOS has no containers of its own; a process number is soon used again
        boot, space = os.uname().nodename, ""
    return hashlib.sha256(f"{boot}{space}".encode()).hexdigest()[:8]
