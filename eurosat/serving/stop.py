"""The order to stop, which SIGTERM or Ctrl-C may give at any moment."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import resource_tracker
from types import TracebackType
from typing import Any, Self

_log = logging.getLogger(__name__)

STOP_SECONDS = 7.8
"""Time from the order to the end. Docker and Cloud Run send SIGKILL 10 s after SIGTERM."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """The order to stop was given.

    LitServe shuts down on `KeyboardInterrupt`. If Python itself meets a plain `KeyboardInterrupt`
    in ``exec`` of a text, as `dataclasses` uses at import, it remembers the exception for ever and
    ends the process by SIGINT rather than with its exit code (bpo-1054041).
    """


class StopOrder:
    """Ends the block with `Stopped` at the first SIGTERM or SIGINT, and swallows the exception.

    Further signals change nothing. The handler sets a plain flag, because a handler that takes a
    lock (`threading.Event`, logging) waits for ever if the signal interrupted the lock's owner.

    The main thread may compute in a library for long, or a library may swallow the exception.
    Therefore a thread, which hears of the signal by a pipe, ends all processes after
    `STOP_SECONDS`.
    """

    def __init__(self) -> None:
        """Prepare the order; the handlers are installed when the block is entered."""
        self.given = False
        self.exit_code = 0  # 1 if a failure of the service gave the order
        self._held = False
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Install the handlers, and start the thread that enforces the end."""
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        threading.Thread(target=self._enforce, args=(reader,), name="stop", daemon=True).start()
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1) and None)
        self._earlier = {number: signal.signal(number, self._take) for number in _SIGNALS}
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._report, sys.unraisablehook = sys.unraisablehook, self._report_unraisable
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """End the child processes that are left, and swallow the exception of the order.

        A library may turn the exception into its own, such as an import into an `ImportError`. An
        error that has nothing to do with the order is logged, because the order ends the block
        anyway.
        """
        self._held = True
        end_children()
        self._ended.set()
        signal.set_wakeup_fd(-1)
        for number, handler in self._earlier.items():
            # A second signal must not change the exit code while Python ends.
            signal.signal(number, signal.SIG_IGN if self.given else handler)
        os.close(self._writer)
        sys.unraisablehook = self._report
        if self.given and error and not _follows_from_order(error):
            _log.error("after the order to stop: %s: %s", type(error).__name__, error)
        return self.given

    def hold(self) -> None:
        """Let the order wait, so that no process is half started when the order ends the block.

        Ctrl-C and many supervisors give the order to all processes at once. A process that is
        started now does not get the order: its signals are blocked until it calls `take_signals`.
        The thread that enforces the end still takes the signals of this process.
        """
        resource_tracker.ensure_running()  # its start, which a spawn may cause, ends the blocking
        self._held = True
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def release(self) -> None:
        """End the block now if the order came since `hold`."""
        self._held = False
        take_signals()
        if self.given:
            raise Stopped

    def _take(self, *_: Any) -> None:
        first, self.given = not self.given, True
        if first and not self._held:
            raise Stopped

    def _report_unraisable(self, lost: Any) -> None:
        """Keep quiet about `Stopped` in a callback of Python's imports, which `release` repeats."""
        if lost.exc_type is not Stopped:
            self._report(lost)

    def _enforce(self, reader: int) -> None:
        while number := os.read(reader, 1):
            if number[0] in _SIGNALS and not self._ended.wait(STOP_SECONDS):
                end_children()
                os._exit(self.exit_code)
        os.close(reader)


def _follows_from_order(error: BaseException | None) -> bool:
    """Return whether the error is `Stopped`, or was raised while `Stopped` was handled."""
    while error and not isinstance(error, Stopped):
        error = error.__cause__ or error.__context__
    return error is not None


def take_signals() -> None:
    """Take the signals that `StopOrder.hold` has blocked, the pending ones at once."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def end_children() -> None:
    """Kill this process's child processes, and wait for their ends."""
    children = multiprocessing.active_children()
    for process in children:
        process.kill()
    for process in children:
        process.join(1)
