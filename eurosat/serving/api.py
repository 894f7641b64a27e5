"""What a worker does: LitServe's API for the model, and the loop that batches without waiting."""

import logging
import multiprocessing
import signal
import sys
import time
from pathlib import Path
from queue import Empty
from typing import Any

import litserve
import numpy as np
from litserve.loops.base import LitLoop
from litserve.utils import LitAPIStatus, LoopResponseType

from eurosat.inference.backend import Model, Patches, Probabilities
from eurosat.inference.runtime import open_model
from eurosat.logs import LogLevel, Logs
from eurosat.serving import metrics
from eurosat.serving.transport import AnswerTransport, RequestChannel

_log = logging.getLogger(__name__)


class GreedyBatchLoop(LitLoop):  # type: ignore[misc]  # LitServe ships no types
    """Takes what is waiting, up to the batch size, and never waits for more.

    A lone request is answered at once; while a batch is computed, the next one gathers.
    """

    def __call__(
        self,
        lit_api: "ClassifierAPI",
        device: str,
        worker_id: int,
        request_queue: RequestChannel,
        transport: AnswerTransport,
        workers_setup_status: Any,
        callback_runner: Any,
    ) -> None:
        """Answer until the main process ends."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the main process stops us in turn
        main = multiprocessing.parent_process()
        while True:
            try:
                requests = [request_queue.get(timeout=1.0)]
            except Empty:
                if main is not None and not main.is_alive():
                    sys.exit("the main process is gone")
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
        now = time.monotonic()  # one clock for all processes of a machine
        timeout = lit_api.request_timeout or float("inf")
        waiting = [request for request in requests if now - request[2] < timeout]
        if not waiting:
            return  # whoever asked has been told of the time-out
        patches = [request[3] for request in waiting]
        answers: list[Any]
        try:
            probabilities = lit_api.predict(lit_api.batch(patches))
            ends = np.cumsum([len(part) for part in patches])
            answers, status = np.split(probabilities, ends[:-1]), LitAPIStatus.OK
        except Exception as error:
            _log.exception("a batch of %d images failed", sum(map(len, patches)))
            answers, status = [repr(error)] * len(waiting), LitAPIStatus.ERROR
        for (consumer, uid, *_), answer in zip(waiting, answers, strict=True):
            self.put_response(transport, consumer, uid, answer, status, LoopResponseType.REGULAR)


class ClassifierAPI(litserve.LitAPI):  # type: ignore[misc]
    """The model in a worker process."""

    def __init__(
        self, model: Path, *, max_batch_size: int, threads: int, log_level: LogLevel
    ) -> None:
        """Describe the worker; the model is opened in the worker's own process.

        Args:
            model: A model file, as `eurosat.inference.runtime.open_model` takes.
            max_batch_size: Most images in one call of the model.
            threads: Threads of one worker.
            log_level: What the worker logs.
        """
        super().__init__(max_batch_size=max_batch_size, loop=GreedyBatchLoop())
        self.path = model
        self.threads = threads
        self.log_level: LogLevel = log_level
        self.model: Model | None = None

    def setup(self, device: str) -> None:
        """Open the model and run it once on a batch of each end of the range."""
        Logs(self.log_level).__enter__()  # for as long as the worker's process lives
        self.model = open_model(self.path, device=device, threads=self.threads)
        for size in (1, self.max_batch_size):
            self.predict(np.zeros((size, *self.model.card.shape), self.model.card.dtype))

    def batch(self, inputs: list[Patches]) -> Patches:
        """Concatenate the images of several requests."""
        return inputs[0] if len(inputs) == 1 else np.concatenate(inputs)

    def predict(self, x: Patches, **_: Any) -> Probabilities:
        """Probabilities of patches, in calls of at most ``max_batch_size``."""
        assert self.model is not None
        parts = []
        for start in range(0, len(x), self.max_batch_size):
            part = x[start : start + self.max_batch_size]
            metrics.BATCH_SIZE.observe(len(part))
            parts.append(self.model.predict(part))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
