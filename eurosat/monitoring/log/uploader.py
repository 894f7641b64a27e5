"""The uploader, a thread of the service's background process, which moves segments to the store."""

import logging
import threading
import time
from contextlib import suppress
from pathlib import Path

from eurosat.monitoring.log.counts import OLDEST_WAITING, UPLOADS, WAITING_BYTES
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.store import Store, describe, open_store, pack

_log = logging.getLogger(__name__)

_PASS_SECONDS = 1.0
_LONGEST_PAUSE = 60.0
"""Longest time between two attempts while the store fails."""

_REMINDER_SECONDS = 600.0
"""Time between two messages about a store that fails."""


class Uploader:
    """Uploads the closed segments of a spool, and closes the segments of ended writers.

    A segment stays in the spool until the store has it. While the store fails, the pause between
    two attempts grows to a minute.
    """

    def __init__(self, spool: Spool, url: str) -> None:
        """Describe the uploader of a spool to a URL; `start` starts it."""
        self._spool = spool
        self._url = url
        self._store: Store | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pause = _PASS_SECONDS
        self._remind_at = 0.0
        self._failing = False

    def start(self) -> None:
        """Start the threads: one uploads, and one sets the gauges, every second."""
        self._thread = threading.Thread(target=self._run, name="log-uploader", daemon=True)
        self._thread.start()
        threading.Thread(target=self._measure, name="log-gauges", daemon=True).start()

    def finish(self, seconds: float) -> None:
        """Upload what is left, and stop; what is not uploaded in time stays in the spool.

        Args:
            seconds: Longest time to wait.
        """
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join(seconds)
        usage = self._spool.usage()
        if usage.files:
            _log.warning(
                "%d segments of the prediction log (%.1f MiB) wait in %s: the next service with "
                "this spool uploads them",
                *(usage.files, usage.size / 2**20, self._spool.folder),
            )

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            self.upload()
        self.upload()

    def upload(self) -> bool:
        """Adopt, upload and delete segments; return whether everything closed was uploaded.

        A segment that fails does not hold back the next one: the store may refuse this segment
        only. After a second failure the rest waits for the next attempt.
        """
        failed: list[Exception] = []
        try:
            if adopted := self._spool.adopt():
                _log.info("the prediction log has %d segments of ended processes", adopted)
            segments = self._spool.closed()
        except OSError as error:
            failed, segments = [error], []
        for segment in segments:
            try:
                self._upload(segment)
            except Exception as error:  # each kind of bucket raises its own errors
                failed.append(error)
                if len(failed) > 1:
                    break
        if failed:
            self._fail(failed[0])
            return False
        if self._failing:
            _log.info("the prediction log is uploaded to %s again", self._url)
        self._failing, self._pause = False, _PASS_SECONDS
        return True

    def _upload(self, segment: Path) -> None:
        """Upload and delete a segment, unless another uploader was faster."""
        try:
            lines = segment.read_bytes()
        except FileNotFoundError:
            return
        name, content = pack(segment.stem, lines)
        self._store = self._store or open_store(self._url)
        self._store.put(name, content)
        segment.unlink(missing_ok=True)
        UPLOADS.labels("done").inc()

    def _fail(self, error: Exception) -> None:
        UPLOADS.labels("failed").inc()
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        if not self._failing or time.monotonic() >= self._remind_at:
            self._remind_at = time.monotonic() + _REMINDER_SECONDS
            _log.error(
                "the prediction log cannot be uploaded to %s (%s): check the address and the "
                "rights of the service's account; records wait in %s",
                *(self._url, describe(error), self._spool.folder),
            )
        self._failing = True

    def _measure(self) -> None:
        """Set the gauges every second, also while an upload hangs."""
        while not self._stop.wait(_PASS_SECONDS):
            with suppress(OSError):  # the next second may be better; `upload` reports the error
                usage = self._spool.usage()
                WAITING_BYTES.set(usage.size)
                OLDEST_WAITING.set(max(time.time() - usage.oldest, 0) if usage.oldest else 0)
