"""Dispatch of requests from an API process to the workers, with recovery from worker exits."""

import asyncio
import ctypes
import logging
import os
import signal
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from litserve.utils import LitAPIStatus

from eurosat.inference.backend import Output, Patches
from eurosat.operating_system import ParentProcess
from eurosat.serving import metrics
from eurosat.serving.heartbeat import Heartbeats
from eurosat.serving.transport import AnswerTransport, NoWorkerError, RequestChannel

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
    answer: asyncio.Future[Any]
    since: float = field(default_factory=time.monotonic)
    attempts: int = 0
    waits_for_worker: bool = False


class Dispatcher:
    """The sender of patches to the workers; every API process has one dispatcher."""

    def __init__(self, worker_exits: ctypes.c_ulong) -> None:
        """Store the counter that the dispatcher shares with the main process.

        Args:
            worker_exits: Number of worker exits so far; the main process counts them.
        """
        self._worker_exits = worker_exits
        self._in_flight: dict[str, _InFlight] = {}

    def start(
        self,
        channel: RequestChannel,
        transport: AnswerTransport,
        number: int,
        workers: Heartbeats,
        own: Heartbeats,
    ) -> None:
        """Open the channel in an API process.

        Args:
            channel: The channel to the workers.
            transport: The way of the answers.
            number: Number of the API process.
            workers: The heartbeats of the workers.
            own: The heartbeats of the API processes.
        """
        self._channel = channel
        self._transport = transport
        self._number = number
        self._workers = workers
        self._own = own
        self._seen_exits = self._worker_exits.value
        channel.listen(number)

    @property
    def ready(self) -> bool:
        """Whether a worker can answer, and all API processes run.

        A worker that hangs is still connected, and so are callers of an API process that hangs.
        """
        return self._channel.connected and self._workers.any_alive and self._own.all_alive

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
        request = _InFlight(patches, asyncio.get_running_loop().create_future())
        self._in_flight[uid] = request
        metrics.QUEUE_DEPTH.set(len(self._in_flight))
        try:
            self._send(uid, request)
            content, status = await request.answer
        finally:
            del self._in_flight[uid]
            metrics.QUEUE_DEPTH.set(len(self._in_flight))
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

    async def run(self) -> None:
        """Receive answers, watch the other processes, and beat, until the process ends.

        If one of these fails, the heartbeat ends, so that the main process replaces this process.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive())
                tasks.create_task(self._watch())
        except Exception:
            _log.exception("this API process can receive no answers")
            raise

    async def _receive(self) -> None:
        while True:
            uid, (content, status, *_) = await self._transport.areceive(self._number)
            request = self._in_flight.get(uid)
            # Nobody waits after a time-out, after a second answer, and for the answers that this
            # process's predecessor asked for.
            if request and not request.answer.done():
                request.answer.set_result((content, status))

    async def _watch(self) -> None:
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
                    if not request.answer.done():
                        request.answer.set_exception(WorkerLostError)
                elif lost:
                    # Another worker may have the request too; the second answer is ignored.
                    self._send(uid, request)
