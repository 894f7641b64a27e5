"""The worker: LitServe's API for the model, and a loop that batches requests without waiting."""

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

import litserve
import numpy as np
from litserve.loops.base import LitLoop
from litserve.utils import LitAPIStatus, LoopResponseType

from eurosat.inference.backend import Model, Output, Patches, join_outputs
from eurosat.inference.runtime import fault_of, open_model
from eurosat.logs import LogLevel, Logs
from eurosat.serving import metrics
from eurosat.serving.transport import AnswerTransport, RequestChannel
from eurosat.serving.worker_states import WorkerStates

_log = logging.getLogger(__name__)


class GreedyBatchLoop(LitLoop):  # type: ignore[misc]  # LitServe ships no types
    """A loop that batches the queued requests, up to the batch size, and never waits for more.

    The loop answers a lone request at once. While the model computes a batch, further requests
    queue up for the next batch.
    """

    def __call__(
        self,
        lit_api: "ClassifierAPI",
        device: str,
        worker_id: int,
        request_queue: RequestChannel,
        transport: AnswerTransport,
        workers_setup_status: WorkerStates,
        callback_runner: Any,
    ) -> None:
        """Answer requests until the main process ends."""
        heartbeats = workers_setup_status.heartbeats
        heartbeats.begin(worker_id, lit_api.step_seconds)
        heartbeats.beat_in_thread(worker_id)
        lit_api.step = functools.partial(heartbeats.step, worker_id)
        while True:
            lit_api.step()
            try:
                requests = [request_queue.get(timeout=1.0)]
            except Empty:
                continue
            images = len(requests[0][3])
            while images < lit_api.max_batch_size:
                try:
                    requests.append(request_queue.get_nowait())
                except Empty:
                    break
                images += len(requests[-1][3])
            self._answer(lit_api, requests, transport)

    def _answer(
        self, lit_api: "ClassifierAPI", requests: list[Any], transport: AnswerTransport
    ) -> None:
        now = time.monotonic()  # all processes of a machine share this clock
        timeout = lit_api.request_timeout or float("inf")
        waiting = [request for request in requests if now - request[2] < timeout]
        if not waiting:
            return  # the API process has already answered 504
        metrics.QUEUE_DEPTH.set(-len(waiting))
        for request in waiting:
            metrics.STAGE_DURATION.labels("queue").observe(now - request[2])
        patches = [request[3] for request in waiting]
        answers: list[Any]
        try:
            output = lit_api.predict(lit_api.batch(patches))
            ends = np.cumsum([len(array) for array in patches])[:-1]
            probabilities = np.split(output.probabilities, ends)
            features = (
                [None] * len(waiting)
                if output.features is None
                else np.split(output.features, ends)
            )
            answers, status = list(zip(probabilities, features, strict=True)), LitAPIStatus.OK
        except Exception as error:
            _log.exception("a batch of %d images failed", sum(map(len, patches)))
            reason = error if isinstance(error, MemoryError) else repr(error)
            answers, status = [reason] * len(waiting), LitAPIStatus.ERROR
        elapsed = time.monotonic() - now
        for _ in waiting:
            metrics.STAGE_DURATION.labels("model").observe(elapsed)
        metrics.QUEUE_DEPTH.set(0)
        for (consumer, uid, *_), answer in zip(waiting, answers, strict=True):
            self.put_response(transport, consumer, uid, answer, status, LoopResponseType.REGULAR)


class ClassifierAPI(litserve.LitAPI):  # type: ignore[misc]
    """The model in a worker process."""

    def __init__(
        self, model: Path, *, max_batch_size: int, threads: int, log_level: LogLevel
    ) -> None:
        """Store the worker's settings; the worker process opens the model later, in `setup`.

        Args:
            model: A model file that `eurosat.inference.open_model` can open.
            max_batch_size: Largest number of images in one call of the model.
            threads: Number of threads of one worker.
            log_level: Lowest level of messages that the worker logs.
        """
        super().__init__(max_batch_size=max_batch_size, loop=GreedyBatchLoop())
        self.path = model
        self.threads = threads
        self.log_level: LogLevel = log_level
        self.model: Model | None = None
        self.step_seconds = 0.0
        self.step: Callable[[], None] | None = None

    def setup(self, device: str) -> None:
        """Open the model, and run it once on the smallest and once on the largest batch."""
        Logs(self.log_level).__enter__()  # stays open until the worker process ends
        self.model = open_model(self.path, device=device, threads=self.threads)
        for size in (1, self.max_batch_size):
            start = time.monotonic()
            self.predict(np.zeros((size, *self.model.card.shape), self.model.card.dtype))
            self.step_seconds = time.monotonic() - start  # of the largest batch at the end

    def batch(self, inputs: list[Patches]) -> Patches:
        """Concatenate the images of several requests."""
        return inputs[0] if len(inputs) == 1 else np.concatenate(inputs)

    def predict(self, x: Patches, **_: Any) -> Output:
        """Compute the output for patches in calls of at most ``max_batch_size``.

        Raises:
            ValueError: The model gives something else than probabilities and finite features.
        """
        assert self.model is not None
        found = []
        for start in range(0, len(x), self.max_batch_size):
            batch = x[start : start + self.max_batch_size]
            metrics.BATCH_IMAGES.observe(len(batch))
            if self.step:
                self.step()
            output = self.model.run(batch)
            if fault := fault_of(output, len(batch), self.model.card):
                raise ValueError(f"{self.path} does not compute what its card describes: {fault}")
            found.append(output)
        return found[0] if len(found) == 1 else join_outputs(found)
