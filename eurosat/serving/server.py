"""LitServe's server with this project's routes, transport, recovery and shutdown."""

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import litserve
import uvicorn
from fastapi import FastAPI
from litserve.utils import WorkerSetupStatus

from eurosat.errors import EuroSATError
from eurosat.inference.card import ModelCard
from eurosat.monitoring.log.settings import LogSettings
from eurosat.monitoring.reference import card_reference
from eurosat.operating_system import available_cores
from eurosat.serving import metrics
from eurosat.serving.admission import Admission, check_path, protected_paths
from eurosat.serving.api import ClassifierAPI
from eurosat.serving.api_process import ApiServer
from eurosat.serving.background import Background
from eurosat.serving.connection import connections
from eurosat.serving.decoder import Decoder
from eurosat.serving.dispatcher import Dispatcher
from eurosat.serving.heartbeat import FORK_SECONDS, START_SECONDS, Heartbeats
from eurosat.serving.limits import Limits
from eurosat.serving.metrics import ProcessKind
from eurosat.serving.monitor import Monitor, Supervised, supervised
from eurosat.serving.open_inference import open_inference_routes
from eurosat.serving.pages import add_pages
from eurosat.serving.prediction_log import ServiceLog
from eurosat.serving.problems import add_problem_handlers
from eurosat.serving.routes import routes
from eurosat.serving.service import Service
from eurosat.serving.stop import StopOrder, end_children
from eurosat.serving.transport import AnswerTransport, RequestChannel
from eurosat.serving.vertex import vertex_routes
from eurosat.serving.worker_states import WorkerStates

_log = logging.getLogger(__name__)

_DRAIN_SECONDS = 5
"""Time for requests in flight after SIGTERM; `eurosat.serving.stop` bounds the whole end."""

_CLOSING_SECONDS = 0.6
"""Time for an API process to end after the requests in flight have ended."""


class Server(litserve.LitServer):  # type: ignore[misc]  # LitServe ships no types
    """The service.

    `eurosat.serving.litserve_internals` lists what the class overrides and uses of LitServe, with
    the reason for each.
    """

    def __init__(
        self,
        api: ClassifierAPI,
        card: ModelCard,
        limits: Limits,
        *,
        accelerator: str,
        devices: int,
        workers_per_device: int,
        metrics_port: int | None,
        api_key: str | None,
        vertex_route: str,
        health_route: str | None,
        examples: Mapping[str, bytes],
        folder: Path,
        stop: StopOrder,
        api_servers: int = 1,
        log: LogSettings | None = None,
    ) -> None:
        """Configure the server; no process starts before `serve`.

        Args:
            api: The API that every worker runs.
            card: The model's card.
            limits: The limits of the service.
            accelerator: ``"cpu"`` or ``"cuda"``.
            devices: Number of devices.
            workers_per_device: Worker processes on each device.
            metrics_port: The port of the metrics; None for the route ``/metrics`` of the service.
            api_key: The key that callers must send; None opens all routes.
            vertex_route: Path of Vertex AI's protocol.
            health_route: A second path of ``/health``.
            examples: Example images for the page, by file name.
            folder: A private folder for the sockets.
            stop: The order to stop.
            api_servers: Number of API processes.
            log: Settings of the prediction log; None if predictions are not logged.

        Raises:
            ModelReferenceError: The reference in the model's card is damaged or of another model.
            PredictionLogError: The prediction log cannot be written.
        """
        self.card = card
        self.reference = card_reference(card, api.path.name)
        self.limits = limits
        self.metrics_port = metrics_port
        self.api_key = api_key
        self.vertex_route = vertex_route
        self.health_route = health_route
        self.examples = examples
        # Without a lock, which a stopped process could hold; only the main process writes.
        self.worker_exits = multiprocessing.Value("L", 0, lock=False)
        self._api_servers = api_servers
        self._log = ServiceLog(log, card, api_servers) if log else None
        self._folder = folder
        self._stop = stop
        self._api_heartbeats = Heartbeats(api_servers, FORK_SECONDS)
        self._api_processes: list[Supervised] = []
        self._background_processes: list[Supervised] = []  # none or one
        super().__init__(
            api,
            accelerator=accelerator,
            devices=devices,
            workers_per_device=workers_per_device,
            timeout=limits.timeout,
            disable_openapi_url=True,  # add_pages serves the documentation
            restart_workers=True,
            middlewares=[(Admission, {"limits": limits, "api_key": api_key})],
        )
        self.uvicorn_graceful_timeout = _DRAIN_SECONDS

    def register_endpoints(self) -> None:
        """Register the service's routes instead of LitServe's routes."""
        app: FastAPI = self.app
        app.title = "EuroSAT classifier"
        app.version = self.card.version
        app.description = (
            "Classify the land use of Sentinel-2 patches. `/` is a page to try the model."
        )
        self.dispatcher = Dispatcher(self.worker_exits)
        recorder = self._log.recorder if self._log else None
        self.decoder = Decoder(self.card, self._api_servers)
        service = Service(
            self.card, self.decoder, self.dispatcher, self.limits, self.reference, recorder
        )
        app.include_router(routes(service, self.health_route, with_metrics=not self.metrics_port))
        app.include_router(vertex_routes(service, self.vertex_route))
        app.include_router(open_inference_routes(service))
        add_pages(app, self.examples, key_needed=self.api_key is not None)
        check_path(app.routes, "POST", self.vertex_route, "AIP_PREDICT_ROUTE")
        check_path(app.routes, "GET", self.health_route or "/health", "AIP_HEALTH_ROUTE")
        add_problem_handlers(app)

    def _init_manager(self, num_api_servers: int) -> None:
        """Create sockets and shared memory instead of LitServe's managing process."""
        names = [
            f"{self.lit_api.api_path.split('/')[-1]}_{number}"
            for number in range(len(self._inference_workers_config_for_api(self.lit_api.api_path)))
        ]
        self.workers_setup_status = WorkerStates(names)
        self._channel = RequestChannel(self._folder, num_api_servers)
        self.litapi_request_queues = {self.lit_api.api_path: self._channel}
        self._transport = AnswerTransport(self._folder, num_api_servers)
        self._stop.hold()  # LitServe starts the workers now

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Open the sockets of an API process, and dispatch requests until the process ends."""
        metrics.MODEL.labels(self.card.version, self.card.backbone, self.card.format).set(1)
        metrics.prepare(protected_paths(app.routes), self.card.classes)
        # Asyncio's own number of threads follows the machine's cores, whatever may be used of them.
        threads = ThreadPoolExecutor(min(32, available_cores() + 4))
        asyncio.get_running_loop().set_default_executor(threads)
        # A collection that visits the objects of the imports holds up requests for 0.1 s.
        gc.collect()
        gc.freeze()
        self.dispatcher.start(
            self._channel,
            self._transport,
            self._api_number,
            self.workers_setup_status.heartbeats,
            self._api_heartbeats,
        )
        dispatch = asyncio.create_task(self.dispatcher.run())
        decoder = asyncio.create_task(self.decoder.start())
        try:
            async with self._log.writing() if self._log else contextlib.nullcontext():
                yield
        finally:
            dispatch.cancel()
            decoder.cancel()

    def verify_worker_status(self) -> None:
        """Wait for the first ready worker.

        Raises:
            EuroSATError: All workers exited, for example for lack of memory, or cannot open the
                model, or take too long.
        """
        self._stop.release()
        deadline = time.monotonic() + START_SECONDS
        while not any(
            state == WorkerSetupStatus.READY for state in self.workers_setup_status.values()
        ):
            codes = [process.exitcode for process in self.inference_workers]
            if WorkerSetupStatus.ERROR in self.workers_setup_status.values():
                raise EuroSATError(
                    "the workers cannot start: correct the cause, which the log above names"
                )
            if None not in codes:
                raise EuroSATError(
                    f"all workers exited while they opened the model (exit codes {codes}): a code "
                    "of -9 usually means too little memory"
                )
            if time.monotonic() > deadline:
                raise EuroSATError(
                    f"no worker has opened the model within {START_SECONDS:g} s: serve a smaller "
                    "model, or choose a faster machine"
                )
            time.sleep(0.05)

    def _start_server(
        self,
        port: int,
        num_uvicorn_servers: int,
        log_level: str,
        sockets: Sequence[socket.socket],
        uvicorn_worker_type: str,
        **kwargs: Any,
    ) -> Mapping[int, Any]:
        """Start the API processes and the background process."""
        config = uvicorn.Config(
            self.app,
            log_level=log_level,
            timeout_graceful_shutdown=self.uvicorn_graceful_timeout,
            **kwargs,
        )

        def start_api_process(number: int) -> BaseProcess:
            self._api_number = number  # in the process that is forked now
            self._api_heartbeats.start(number)
            process = multiprocessing.get_context("fork").Process(
                target=ApiServer(config).run, args=(sockets,), name=f"api-{number}"
            )
            process.start()
            return process

        self._stop.hold()
        self._api_processes = supervised(
            ProcessKind.API,
            self._api_heartbeats,
            start_api_process,
            map(start_api_process, range(num_uvicorn_servers)),
        )
        if self._background.needed:
            self._background_processes = supervised(
                ProcessKind.BACKGROUND,
                self._background.heartbeats,
                self._background.start,
                [self._background.start(0)],
            )
        self._stop.release()
        return {}  # LitServe's own supervision and shutdown, which ask for them, are overridden

    def _start_worker_monitoring(self, manager: None, uvicorn_workers: Mapping[int, Any]) -> None:
        """Supervise all processes until the order to stop."""

        def start_worker(number: int) -> BaseProcess:
            self.worker_exits.value += 1  # the API processes repeat the requests of this worker
            worker: BaseProcess = self.launch_single_inference_worker(self.lit_api, number)
            return worker

        workers = supervised(
            ProcessKind.WORKER,
            self.workers_setup_status.heartbeats,
            start_worker,
            self.inference_workers,
        )
        processes = [*self._api_processes, *self._background_processes, *workers]
        self._give_up(Monitor(processes, self._stop).run())

    def _perform_graceful_shutdown(
        self, manager: None, uvicorn_workers: Mapping[int, Any], shutdown_reason: str = "normal"
    ) -> None:
        """Let the API processes answer the requests in flight, then end all processes."""
        _log.info("the service stops; requests in flight have %d s to finish", _DRAIN_SECONDS)
        self._stop.hold()  # the background process may be started again
        began = time.monotonic()
        for one in self._api_processes:
            one.process.terminate()
        while time.monotonic() - began < _DRAIN_SECONDS + _CLOSING_SECONDS and any(
            [one.is_alive(since=began) for one in self._api_processes]
        ):
            time.sleep(0.02)
        for one in self._api_processes:
            one.kill()  # the background process uploads what an ended process has left
        for one in self._background_processes:
            if not one.is_alive(since=began):
                one.process = one.start(one.number)
            self._background.finish(one.process)
        end_children()

    def _give_up(self, reason: str) -> None:
        _log.critical("%s: the service stops", reason)
        self._stop.exit_code = 1
        os.kill(os.getpid(), signal.SIGTERM)

    def serve(self, host: str, port: int, log_level: str) -> int:
        """Run until SIGTERM or Ctrl-C, and answer the requests in flight before the end.

        Returns:
            The exit code: 0, or 1 if a failure ended the service.

        Raises:
            EuroSATError: The workers cannot start.
        """
        self._background = Background(host, self.metrics_port, self._log)
        logging.getLogger("litserve.server").setLevel(logging.WARNING)  # this module logs the rest
        try:
            self.run(  # shuts down on the exception of the order to stop
                host=host,
                port=port,
                num_api_servers=self._api_servers,
                log_level=log_level,
                log_config=None,  # uvicorn logs in the service's own format
                generate_client_file=False,
                access_log=False,
                http=connections(self.limits),
                ws="none",  # no route takes a websocket: the request is answered like any other
            )
        finally:
            end_children()
        return self._stop.exit_code
