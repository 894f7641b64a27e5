"""Heartbeats, which tell a process that hangs from a process that computes."""

import multiprocessing
import os
import threading
import time

from eurosat.operating_system import ParentProcess

SILENCE_SECONDS = 4.0
"""Longest time between two heartbeats. With the pauses of the heartbeat and of the monitor, a
process that stops is noticed within 5 s."""

START_SECONDS = 600.0
"""Longest time from the start of a worker to its first heartbeat.

A worker opens the model in this time. Opening a large model may hold Python's lock for many
seconds, so that a heartbeat would prove nothing.
"""

FORK_SECONDS = 30.0
"""Longest time from the start of a forked process, which has all modules, to its first heartbeat.

A process needed at most 0.5 s on two busy cores.
"""

_STEP_FACTOR = 20
"""A step may take this multiple of the time that was measured when the process started.

The cores may be shared with other processes, and a GPU with other services.
"""

_BEAT_SECONDS = 0.5


class Heartbeats:
    """The heartbeats of several processes, in memory that all processes share.

    A process proves two things: a thread of it runs (the beat), and its main thread advances (the
    step). A process that is stopped, or whose main thread holds Python's lock for ever, does not
    beat. A process whose main thread waits for ever, or computes for ever without Python's lock,
    beats and makes no step. The memory has no lock, because a process that is stopped could hold
    the lock; every value is one aligned number, which is read and written as a whole.
    """

    def __init__(self, count: int, start_seconds: float = START_SECONDS) -> None:
        """Reserve the memory.

        Args:
            count: Number of processes.
            start_seconds: Longest time from the start of a process to its first heartbeat.
        """
        self._start_seconds = start_seconds
        memory = multiprocessing.get_context("spawn").RawArray
        self._starts = memory("d", count)
        self._beats = memory("d", count)  # 0 until the first beat
        self._steps = memory("d", count)
        self._bounds = memory("d", count)

    def start(self, number: int) -> None:
        """Note in the main process that process ``number`` is started now."""
        self._beats[number] = 0
        self._starts[number] = time.monotonic()  # all processes of a machine share this clock

    def begin(self, number: int, step_seconds: float = 0) -> None:
        """Begin to beat, in process ``number``.

        Args:
            number: Number of the process.
            step_seconds: Measured time of the longest step.
        """
        self._bounds[number] = max(SILENCE_SECONDS, _STEP_FACTOR * step_seconds)
        self.step(number)

    def step(self, number: int) -> None:
        """Note that the main thread of process ``number`` advances."""
        self._steps[number] = self._beats[number] = time.monotonic()

    def beat_in_thread(self, number: int) -> None:
        """Beat in a thread, which ends process ``number`` after the main process."""
        main = ParentProcess()

        def beat() -> None:
            while not main.has_ended:
                self._beats[number] = time.monotonic()
                time.sleep(_BEAT_SECONDS)
            os._exit(1)  # the main thread may compute for ever

        threading.Thread(target=beat, name="heartbeat", daemon=True).start()

    def hang(self, number: int, since: float = 0) -> str | None:
        """Return why process ``number`` counts as hanging, or None.

        Args:
            number: Number of the process.
            since: Time of `time.monotonic` before which silence proves nothing, because the whole
                service may have been suspended.
        """
        now, beat = time.monotonic(), self._beats[number]
        if not beat:
            late = now - max(self._starts[number], since) > self._start_seconds
            return f"has not started within {self._start_seconds:g} s" if late else None
        if now - max(beat, since) > SILENCE_SECONDS:
            return f"has given no sign of life for {SILENCE_SECONDS:g} s"
        bound = self._bounds[number]
        if now - max(self._steps[number], since) > bound:
            return f"has computed for more than {bound:.3g} s"
        return None

    def has_begun(self, number: int) -> bool:
        """Return whether process ``number`` has begun to beat since its last start."""
        return bool(self._beats[number])

    def is_alive(self, number: int) -> bool:
        """Return whether process ``number`` has begun to beat and does not hang."""
        return self.has_begun(number) and not self.hang(number)

    @property
    def any_alive(self) -> bool:
        """Whether one of the processes is alive."""
        return any(map(self.is_alive, range(len(self._beats))))

    @property
    def all_alive(self) -> bool:
        """Whether all of the processes are alive."""
        return all(map(self.is_alive, range(len(self._beats))))
