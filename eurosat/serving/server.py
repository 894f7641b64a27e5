"""LitServe's server with this project's routes, transport, recovery and way to stop."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import litserve
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from litserve.utils import WorkerSetupStatus
from starlette.exceptions import HTTPException
from starlette.responses import Response

from eurosat.errors import EuroSATError
from eurosat.inference.card import ModelCard
from eurosat.serving import metrics
from eurosat.serving.api import ClassifierAPI
from eurosat.serving.dispatcher import Dispatcher
from eurosat.serving.guard import Guard, Limits, problem
from eurosat.serving.protocols import MODEL_NAME, open_inference_routes, vertex_routes
from eurosat.serving.routes import add_pages, routes
from eurosat.serving.service import Service
from eurosat.serving.transport import AnswerTransport, RequestChannel

_log = logging.getLogger(__name__)

_DRAIN_SECONDS = 5
"""For requests in flight after SIGTERM; Cloud Run and others kill 10 s after it."""

_MAX_FAILED_STARTS = 5
"""Workers that end this often in a row before they could answer are not started again."""


_STATES = (
    WorkerSetupStatus.STARTING,
    WorkerSetupStatus.READY,
    WorkerSetupStatus.ERROR,
    WorkerSetupStatus.FINISHED,
)


class WorkerStates:
    """The state of every worker, in memory that all processes share.

    LitServe keeps a managing process for it, which would be one more to look after.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Start with every worker starting.

        Args:
            names: LitServe's names of the workers.
        """
        self._names = list(names)
        # Workers are spawned, and only take what was made for that.
        self._states = multiprocessing.get_context("spawn").Array("b", len(self._names))

    def __len__(self) -> int:
        """Number of workers."""
        return len(self._names)

    def __setitem__(self, name: str, state: str) -> None:
        """Set a worker's state."""
        self._states[self._names.index(name)] = _STATES.index(state)

    def values(self) -> list[str]:
        """Every worker's state."""
        return [_STATES[number] for number in self._states[:]]


class Server(litserve.LitServer):  # type: ignore[misc]  # LitServe ships no types
    """The service."""

    def __init__(
        self,
        api: ClassifierAPI,
        card: ModelCard,
        limits: Limits,
        *,
        accelerator: str,
        devices: int,
        workers_per_device: int,
        api_key: str | None,
        vertex_route: str,
        health_route: str | None,
        examples: Mapping[str, bytes],
    ) -> None:
        """Put the parts together; nothing starts before `run`.

        Args:
            api: What a worker does.
            card: The model's card.
            limits: What the service takes on.
            accelerator: ``"cpu"`` or ``"cuda"``.
            devices: Number of devices.
            workers_per_device: Worker processes on each device.
            api_key: Key that callers must show, if any.
            vertex_route: Path of Vertex AI's protocol.
            health_route: A further path that answers as ``/health`` does.
            examples: Example images for the page, by file name.
        """
        self.card = card
        self.limits = limits
        self.api_key = api_key
        self.vertex_route = vertex_route
        self.health_route = health_route
        self.examples = examples
        self.deaths = multiprocessing.Value("L", 0)
        self.exit_code = 0
        self._folder = Path(tempfile.mkdtemp(prefix="eurosat-serve-"))
        guarded = {"/predict", "/explain", "/info", vertex_route}
        guarded.add(f"/v2/models/{MODEL_NAME}/infer")
        super().__init__(
            api,
            accelerator=accelerator,
            devices=devices,
            workers_per_device=workers_per_device,
            timeout=limits.timeout,
            disable_openapi_url=True,  # the documentation is served by our own routes
            restart_workers=True,
            middlewares=[
                (Guard, {"limits": limits, "api_key": api_key, "guarded": frozenset(guarded)})
            ],
        )
        self.uvicorn_graceful_timeout = _DRAIN_SECONDS

    def register_endpoints(self) -> None:
        """Our routes in place of LitServe's."""
        app: FastAPI = self.app
        app.title = "EuroSAT classifier"
        app.version = self.card.version
        app.description = "Land-use classes of Sentinel-2 patches. The page for people is at `/`."
        self.dispatcher = Dispatcher(self.response_buffer, self.deaths)
        service = Service(self.card, self.dispatcher, self.limits)
        key_needed = self.api_key is not None
        security: dict[str, Any] = {"security": [{"ApiKey": []}]} if key_needed else {}
        router = routes(service, security)
        app.include_router(router)
        app.include_router(vertex_routes(service, self.vertex_route, security))
        app.include_router(open_inference_routes(service, security))
        if self.health_route not in (None, "/health"):
            (health,) = (r.endpoint for r in router.routes if r.path == "/health")  # type: ignore[attr-defined]
            app.add_api_route(str(self.health_route), health, methods=["GET"])
        add_pages(app, self.examples, key_needed)
        app.add_exception_handler(HTTPException, _http_problem)
        app.add_exception_handler(RequestValidationError, _validation_problem)
        app.add_exception_handler(Exception, _unexpected_problem)

    def _init_manager(self, num_api_servers: int) -> None:
        """LitServe's start, with sockets and shared memory in place of a managing process."""
        names = [
            f"{self.lit_api.api_path.split('/')[-1]}_{number}"
            for number in range(len(self._inference_workers_config_for_api(self.lit_api.api_path)))
        ]
        self.workers_setup_status = WorkerStates(names)
        self._shutdown_event = multiprocessing.Event()
        self._channel = RequestChannel(self._folder, num_api_servers)
        self.litapi_request_queues = {self.lit_api.api_path: self._channel}
        self._transport = AnswerTransport(self._folder, num_api_servers)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Of an API process."""
        metrics.MODEL.labels(self.card.version, self.card.backbone, self.card.format).set(1)
        async with super().lifespan(app):
            self.dispatcher.start(self._channel, self.app.response_queue_id)
            watch = asyncio.create_task(self.dispatcher.watch())
            try:
                yield
            finally:
                watch.cancel()

    def _start_worker_monitoring(self, manager: None, uvicorn_workers: Mapping[int, Any]) -> None:
        """Replace workers the moment they die; give up if they cannot start or the API ends."""

        def monitor() -> None:
            failures = 0
            while not self._shutdown_event.is_set():
                processes = [*self.inference_workers, *uvicorn_workers.values()]
                wait([process.sentinel for process in processes], timeout=0.5)
                if self._stopping.is_set():
                    return
                if not all(process.is_alive() for process in uvicorn_workers.values()):
                    self._give_up("an API process ended")
                    return
                for number, process in enumerate(self.inference_workers):
                    if process.is_alive():
                        continue
                    status = self.workers_setup_status.values()[number]
                    failures = 0 if status == WorkerSetupStatus.READY else failures + 1
                    _log.error("worker %d ended with code %s", number, process.exitcode)
                    if failures >= _MAX_FAILED_STARTS:
                        self._give_up("workers end before they can answer")
                        return
                    metrics.WORKER_RESTARTS.inc()
                    with self.deaths.get_lock():
                        self.deaths.value += 1  # the API processes send again what it had
                    time.sleep(min(failures, 3))
                    self.inference_workers[number] = self.launch_single_inference_worker(
                        self.lit_api, number
                    )

        threading.Thread(target=monitor, name="monitor", daemon=True).start()

    def _perform_graceful_shutdown(
        self, manager: None, uvicorn_workers: Mapping[int, Any], shutdown_reason: str = "normal"
    ) -> None:
        """Let the API processes answer what they have, then end everything."""
        _log.info("stopping: requests in flight have %d s", _DRAIN_SECONDS)
        for process in uvicorn_workers.values():
            process.terminate()
        deadline = time.monotonic() + _DRAIN_SECONDS + 1
        for process in uvicorn_workers.values():
            process.join(max(deadline - time.monotonic(), 0))
            process.kill()
        for process in self.inference_workers:
            process.kill()  # a worker has nothing to lose

    def _give_up(self, reason: str) -> None:
        _log.critical("%s: stopping", reason)
        self.exit_code = 1
        os.kill(os.getpid(), signal.SIGTERM)

    def serve(self, host: str, port: int, api_servers: int, log_level: str) -> int:
        """Run until SIGTERM or Ctrl-C; requests in flight are answered first.

        Returns:
            The exit code: 0, or 1 if the service could not go on.

        Raises:
            EuroSATError: The port is taken.
        """
        self._stopping = threading.Event()
        main = os.getpid()

        def stop(*_: Any) -> None:
            # Processes forked from this one have it too, until uvicorn puts its own in place.
            if os.getpid() == main and not self._stopping.is_set():
                self._stopping.set()
                raise KeyboardInterrupt  # which LitServe takes as the word to shut down

        _check_port(host, port)
        logging.getLogger("litserve.server").setLevel(logging.WARNING)  # the rest is said here
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        try:
            self.run(
                host=host,
                port=port,
                num_api_servers=api_servers,
                log_level=log_level,
                log_config=None,  # uvicorn's lines look like all others
                generate_client_file=False,
                access_log=False,
            )
        except KeyboardInterrupt:
            pass  # while starting
        except RuntimeError as error:  # LitServe's word for workers that cannot be set up
            raise EuroSATError("the workers cannot start: the log above says why") from error
        finally:
            self._stopping.set()
            for process in multiprocessing.active_children():
                process.kill()
            shutil.rmtree(self._folder, ignore_errors=True)
        return self.exit_code


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise EuroSATError(
                f"port {port} of {host} cannot be had ({error.strerror}): choose another --port"
            ) from error


async def _http_problem(request: Request, error: Any) -> Response:
    return problem(error.status_code, str(error.detail), request.state.id, error.headers or {})


async def _validation_problem(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    status = 400 if first["type"] == "json_invalid" else 422
    return problem(status, f"{where or 'the body'}: {first['msg']}", request.state.id, {})


async def _unexpected_problem(request: Request, error: Any) -> Response:
    _log.exception("request %s failed", request.state.id, exc_info=error)
    return problem(500, "internal error; the service's log has the reason", request.state.id, {})
