"""The background process: the port of the metrics, and the upload of the prediction log.

Both run in threads. The main process must have no threads that take locks, because it forks an API
process whenever one has exited.
"""

import multiprocessing
from multiprocessing.process import BaseProcess

from eurosat.operating_system import ParentProcess
from eurosat.serving import metrics
from eurosat.serving.heartbeat import FORK_SECONDS, Heartbeats
from eurosat.serving.prediction_log import FINISH_SECONDS, ServiceLog

_STEP_SECONDS = 0.5


class Background:
    """Starts the background process, and ends it after all other processes."""

    def __init__(self, host: str, metrics_port: int | None, log: ServiceLog | None) -> None:
        """Store the settings; no process starts yet.

        Args:
            host: Address of the port.
            metrics_port: The port of the metrics; None if the metrics have no port of their own.
            log: The prediction log; None if predictions are not logged.
        """
        self.heartbeats = Heartbeats(1, FORK_SECONDS)
        self._host = host
        self._metrics_port = metrics_port
        self._log = log
        # A pipe has no lock, which a process that was killed could hold.
        self._ordered, self._order = multiprocessing.Pipe(duplex=False)

    @property
    def needed(self) -> bool:
        """Whether there is anything for the process to do."""
        return bool(self._metrics_port or self._log)

    def start(self, number: int = 0) -> BaseProcess:
        """Fork the process from the main process; `number` is always 0."""
        self.heartbeats.start(number)
        process = multiprocessing.get_context("fork").Process(target=self._run, name="background")
        process.start()
        return process

    def finish(self, process: BaseProcess) -> None:
        """Let the process upload what the API processes have left, and wait for its end.

        The order stays in the pipe, so that it also holds for a process that is started later.
        """
        self._order.send(None)
        process.join(FINISH_SECONDS + 0.1)

    def _run(self) -> None:
        # `StopOrder` has blocked the signals, which nobody takes here: this process ends last.
        main = ParentProcess()
        if self._metrics_port:
            metrics.serve_metrics(self._host, self._metrics_port)
        if self._log:
            self._log.start_upload()
        self.heartbeats.begin(0)
        while not self._ordered.poll(_STEP_SECONDS):
            self.heartbeats.step(0)
            if main.has_ended:
                return
        if self._log:
            self._log.finish_upload()
