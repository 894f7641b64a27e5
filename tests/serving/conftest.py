"""A real service in processes of its own, as users start it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn
from fastapi import FastAPI

from eurosat.data.synthetic import synthetic_patch
from eurosat.inference.runtime import open_model
from eurosat.labels import CLASSES
from eurosat.serving.api import ClassifierAPI
from eurosat.serving.limits import Limits
from eurosat.serving.server import Server
from eurosat.serving.stop import StopOrder
from tests.conftest import geotiff, jpeg


@dataclass
class Service:
    """A running ``eurosat serve``."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    started_in: float
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=60, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.session.post(self.url + path, timeout=60, **options)

    def predict(self, data: bytes, name: str = "image.jpg", **options: Any) -> requests.Response:
        return self.post("/predict", files={"file": (name, data)}, **options)

    def workers(self) -> list[int]:
        """Process numbers of the inference workers, which alone are spawned afresh."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_text()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if parent == self.process.pid and "spawn_main" in command:
                found.append(int(folder.name))
        return found

    def metric(self, name: str) -> float:
        """Sum of a metric over the label values that ``name`` leaves open."""
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def wait_in_flight(self, count: int) -> None:
        """Wait until it has taken on so many requests."""
        deadline = time.monotonic() + 30
        while f"eurosat_requests_in_flight {count}.0\n" not in self.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> int:
        """Ask it to stop, and give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_ready(url: str, process: subprocess.Popen[bytes], seconds: float = 100) -> float:
    """Seconds until the service says that it is ready."""
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        assert process.poll() is None, "the service ended while it was starting"
        try:
            if requests.get(f"{url}/health", timeout=5).status_code == 200:
                return time.perf_counter() - start
        except requests.ConnectionError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"{url} was not ready after {seconds} s")


@pytest.fixture(scope="session")
def onnx_model(export_once: Callable[[str], Path]) -> Path:
    """The tiny run's checkpoint as an ONNX file."""
    return export_once("onnx")


StartService = Callable[..., Service]


@pytest.fixture(scope="session")
def start_service(
    onnx_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartService]:
    """Starts services; those that still run at the end are killed."""
    running: list[Service] = []

    def start(
        *options: str,
        model: Path | None = None,
        env: dict[str, str] | None = None,
        within: str = "",
        cwd: str | None = None,
    ) -> Service:
        """Start a service, ``within`` a shell that has run these commands."""
        port = free_port()
        log = tmp_path_factory.mktemp("service") / "service.log"
        command = [sys.executable, "-m", "eurosat", "serve", str(model or onnx_model)]
        command += ["--host=127.0.0.1", *options]
        if within:
            command = ["sh", "-ec", f'{within}\nexec "$0" "$@"', *command]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PORT": str(port), "OMP_NUM_THREADS": "1"} | (env or {}),
            )
        url = f"http://127.0.0.1:{port}"
        running.append(Service(url, process, log, 0))
        running[-1].started_in = wait_ready(url, process)
        return running[-1]

    yield start
    for service in running:
        if service.process.poll() is None:
            service.stop()


KEY = "secret"


@dataclass
class Front:
    """The application of a service whose workers were not started, in this process."""

    app: FastAPI
    url: str

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=60, **options)


@pytest.fixture(scope="session")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A front with a key that answers one request at a time; tests may add routes to it."""
    (model,) = (Path(__file__).parents[1] / "fixtures").rglob("*.onnx")
    server = Server(
        ClassifierAPI(model, max_batch_size=1, threads=1, log_level="info"),
        open_model(model).card,
        Limits(max_in_flight=1, max_body_bytes=1000, max_images=1, timeout=60),
        accelerator="cpu",
        devices=1,
        workers_per_device=1,
        metrics_port=None,
        api_key=KEY,
        vertex_route="/v1/endpoints/1:predict",
        health_route="/v1/endpoints/1",
        examples={"a.jpg": b"\xff\xd8\xff"},
        folder=tmp_path_factory.mktemp("front"),
        stop=StopOrder(),
    )
    port = free_port()
    config = uvicorn.Config(server.app, port=port, lifespan="off", log_config=None)
    listener = uvicorn.Server(config)
    thread = threading.Thread(target=listener.run)
    thread.start()
    while not listener.started:
        time.sleep(0.01)
    yield Front(server.app, f"http://127.0.0.1:{port}")
    listener.should_exit = True
    thread.join()


@pytest.fixture(scope="session")
def service(start_service: StartService) -> Service:
    """One service for all tests that do it no harm."""
    return start_service()


@pytest.fixture(scope="session")
def pictures() -> dict[str, bytes]:
    """A JPEG of every class, by file name."""
    return {f"{name}.jpg": jpeg(synthetic_patch(name, 7, 1)) for name in CLASSES}


@pytest.fixture(scope="session")
def multispectral() -> bytes:
    """A 13-band GeoTIFF."""
    return geotiff(synthetic_patch("Forest", 7, 1))
