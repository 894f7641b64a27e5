"""Dispatch of requests from an API process to the workers, with recovery from worker exits."""

import asyncio
import ctypes
import logging
import os
import signal
import time
import uuid
from dataclasses import dataclass, field

from litserve.utils import LitAPIStatus, ResponseBufferItem

from eurosat.inference.backend import Output, Patches
from eurosat.operating_system import ParentProcess
from eurosat.serving import metrics
from eurosat.serving.heartbeat import Heartbeats
from eurosat.serving.transport import NoWorkerError, RequestChannel

_log = logging.getLogger(__name__)

_ATTEMPTS = 2
"""Workers that a request is sent to.

A request over which two workers exited may be the cause, and must not end a third worker.
"""

_WATCH_SECONDS = 0.05


class WorkerLostError(Exception):
    """Two workers exited while they had a request."""


class ModelFailedError(Exception):
    """The model raised an error."""


@dataclass
class _InFlight:
    patches: Patches
    answer: ResponseBufferItem
    since: float = field(default_factory=time.monotonic)
    attempts: int = 0
    waits_for_worker: bool = False


class Dispatcher:
    """The sender of patches to the workers; every API process has one dispatcher."""

    def __init__(
        self, responses: dict[str, ResponseBufferItem], worker_exits: ctypes.c_ulong
    ) -> None:
        """Store the objects that the dispatcher shares with the server.

        Args:
            responses: LitServe's response buffer of this process.
            worker_exits: Number of worker exits so far; the main process counts them.
        """
        self._responses = responses
        self._worker_exits = worker_exits
        self._seen_exits = worker_exits.value
        self._in_flight: dict[str, _InFlight] = {}

    def start(
        self, channel: RequestChannel, number: int, workers: Heartbeats, own: Heartbeats
    ) -> None:
        """Open the channel in an API process.

        Args:
            channel: The channel to the workers.
            number: Number of the API process.
            workers: The heartbeats of the workers.
            own: The heartbeats of the API processes.
        """
        self._channel = channel
        self._number = number
        self._workers = workers
        self._own = own
        channel.listen(number)

    @property
    def ready(self) -> bool:
        """Whether a worker can answer; a worker that hangs is still connected."""
        return self._channel.connected and self._workers.any_alive

    async def predict(self, patches: Patches) -> Output:
        """Have a worker classify patches.

        Args:
            patches: Raw pixels, uint8 or uint16, shape (B, C, size, size).

        Returns:
            The probabilities and features of the patches.

        Raises:
            WorkerLostError: Two workers exited while they had these patches.
            MemoryError: The worker has too little memory.
            ModelFailedError: The model raised another error.
        """
        uid = uuid.uuid4().hex
        request = _InFlight(patches, ResponseBufferItem(asyncio.Event()))
        self._in_flight[uid] = request
        metrics.QUEUE_DEPTH.set(len(self._in_flight))
        self._responses[uid] = request.answer
        try:
            self._send(uid, request)
            await request.answer.event.wait()
        finally:
            del self._in_flight[uid], self._responses[uid]
            metrics.QUEUE_DEPTH.set(len(self._in_flight))
        if request.answer.response is None:
            raise WorkerLostError
        content, status = request.answer.response
        if status == LitAPIStatus.ERROR:
            raise content if isinstance(content, MemoryError) else ModelFailedError(content)
        return Output(*content)

    def _send(self, uid: str, request: _InFlight) -> None:
        try:
            self._channel.put((self._number, uid, request.since, request.patches))
        except NoWorkerError:
            request.waits_for_worker = True  # watch() sends the request later
        else:
            request.attempts += 1
            request.waits_for_worker = False

    async def watch(self) -> None:
        """Repeat the requests of workers that exit, and end this process after the main process.

        The task is the heartbeat of the process as well: it makes a step whenever the event loop
        turns.
        """
        main = ParentProcess()
        self._own.begin(self._number)
        while True:
            self._own.step(self._number)
            await asyncio.sleep(_WATCH_SECONDS)
            if main.has_ended:
                _log.error("the main process has ended: this API process stops")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            exits = self._worker_exits.value
            lost, self._seen_exits = exits != self._seen_exits, exits
            for uid, request in list(self._in_flight.items()):
                if request.waits_for_worker:
                    self._send(uid, request)
                elif lost and request.attempts >= _ATTEMPTS:
                    request.answer.event.set()
                elif lost:
                    # Another worker may have the request too; the second answer is ignored.
                    self._send(uid, request)
