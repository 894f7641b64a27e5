"""The writer, which appends records to the spool in an API process."""

import logging
import os
import time
from pathlib import Path

from eurosat.monitoring.log.counts import RECORDS
from eurosat.monitoring.log.records import Dropped, Header, Record, to_line
from eurosat.monitoring.log.spool import SEGMENT_BYTES, Spool

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
"""Time between two attempts to open a segment while the spool is full."""

_REMINDER_SECONDS = 60.0
"""Time between two messages about dropped records."""


class Writer:
    """Appends records to segments of the spool; every API process has one writer.

    `write` appends a record by one call of ``write(2)``. The kernel then has the record, so the
    record survives SIGKILL of this process or of any other process, but not a power loss. If the
    spool or its disk is full, the record is dropped and counted; `write` never raises.

    The writer belongs to one process and one thread.
    """

    def __init__(self, spool: Spool, header: Header, *, seconds: float) -> None:
        """Describe a writer; the first record opens a segment.

        Args:
            spool: The spool.
            header: First line of every segment.
            seconds: Age at which `close_if_old` closes a segment.
        """
        self._spool = spool
        self._header = to_line(header)
        self._seconds = seconds
        self._segment: Path | None = None
        self._file = -1
        self._size = 0
        self._records = 0
        self._opened = 0.0
        self._retry_at = 0.0
        self._remind_at = 0.0
        self._untold = 0

    def write(self, record: Record) -> bool:
        """Append a record, and return whether the spool has it."""
        line = to_line(record)
        try:
            written = self._append(line)
        except OSError as error:
            self._warn(f"the spool {self._spool.folder} cannot be written ({error.strerror})")
            self._discard()
            written = False
        if written:
            RECORDS.labels("written").inc()
        else:
            self.count_dropped()
        return written

    def count_dropped(self) -> None:
        """Count a record that is not written; the next segment tells the number."""
        self._untold += 1
        RECORDS.labels("dropped").inc()

    def close_if_old(self) -> None:
        """Close the segment if it is old enough, so that its records are uploaded."""
        if self._segment is not None and time.monotonic() - self._opened >= self._seconds:
            self.close()

    def close(self) -> None:
        """Close the segment, if one is open."""
        if self._segment is None:
            return
        os.close(self._file)
        segment, self._segment = self._segment, None
        try:
            self._spool.close(segment)
        except OSError as error:
            _log.error(
                "%d records of the prediction log are lost, because %s cannot be closed (%s): keep "
                "other programs from the spool",
                *(self._records, segment, error.strerror),
            )
            RECORDS.labels("dropped").inc(self._records)
            self._untold += self._records

    def _append(self, line: bytes) -> bool:
        if self._segment is not None and self._size + len(line) > SEGMENT_BYTES:
            self.close()
        prefix = b""
        if self._segment is None:
            if not self._open():
                return False
            prefix = self._header
            if self._untold:
                prefix += to_line(Dropped(records=self._untold))
        content = prefix + line
        if os.write(self._file, content) < len(content):  # the disk became full on the way
            os.ftruncate(self._file, self._size)
            raise OSError(None, "the disk is full")
        if prefix:
            self._untold = 0
        self._size += len(content)
        self._records += 1
        return True

    def _open(self) -> bool:
        """Open a segment, and return whether there is room for one."""
        now = time.monotonic()
        if now < self._retry_at:
            return False
        self._retry_at = now + _RETRY_SECONDS
        self._spool.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if shortage := self._spool.shortage():
            self._warn(shortage)
            return False
        segment = self._spool.new_segment()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        self._file = os.open(segment, flags, 0o600)
        self._segment, self._opened = segment, now
        self._size = self._records = 0
        self._retry_at = 0.0
        return True

    def _discard(self) -> None:
        """Stop writing to a segment after an error; what it has already is uploaded."""
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        if self._segment is not None:
            self.close()

    def _warn(self, reason: str) -> None:
        if time.monotonic() >= self._remind_at:
            self._remind_at = time.monotonic() + _REMINDER_SECONDS
            _log.error("predictions are answered, but the prediction log drops them: %s", reason)
