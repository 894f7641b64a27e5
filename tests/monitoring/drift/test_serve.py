"""``eurosat drift serve`` in a process of its own, on logs of a real model."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from eurosat.bands import render_rgb
from eurosat.data.synthetic import synthetic_patch
from eurosat.inference.runtime import open_model
from eurosat.labels import CLASSES
from eurosat.monitoring.log.recorder import Recorder
from eurosat.monitoring.log.records import Header
from eurosat.monitoring.log.settings import LogSettings
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.uploader import Uploader
from eurosat.monitoring.observation import observe_output
from eurosat.monitoring.reference_files import read_reference
from eurosat.monitoring.statistics import statistic_names
from tests.monitoring.log.forbidden import forbidden_bucket
from tests.serving.conftest import free_port

pytestmark = [pytest.mark.process, pytest.mark.slow]


@dataclass
class DriftService:
    """A running ``eurosat drift serve``."""

    url: str
    process: subprocess.Popen[bytes]
    output: Path

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=10, **options)

    def wait_for(self, ready: Callable[[dict[str, Any]], Any], **options: Any) -> dict[str, Any]:
        """The answer of ``/drift``, once a condition holds."""
        deadline = time.monotonic() + 30
        while True:
            assert self.process.poll() is None, self.output.read_text()
            try:
                content = self.get("/drift", **options).json()
            except requests.ConnectionError:
                content = {}
            if content and ready(content):
                return content
            assert time.monotonic() < deadline, content
            time.sleep(0.05)

    def stop(self) -> int:
        """Send SIGTERM, and return the exit code; the service has five seconds to end."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(5)


Start = Callable[..., DriftService]


@pytest.fixture
def start(export_once: Callable[[str], Path], tmp_path: Path) -> Iterator[Start]:
    """Start ``eurosat drift serve`` with the tiny run's ONNX file as the reference."""
    running: list[DriftService] = []

    def run(log: str, **env: str) -> DriftService:
        port = free_port()
        command = [sys.executable, "-m", "eurosat", "drift", "serve", f"--log={log}"]
        command += [f"--reference={export_once('onnx')}", "--host=127.0.0.1", f"--port={port}"]
        output = tmp_path / "drift.log"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*command, "--interval=0.2"],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | env,
            )
        running.append(DriftService(f"http://127.0.0.1:{port}", process, output))
        return running[-1]

    yield run
    for service in running:
        service.process.kill()
        service.process.wait()


def write_log(model_file: Path, folder: Path, count: int) -> str:
    """Log requests with an image each, as the service does, and return the log's folder."""
    model = open_model(model_file, threads=1)
    card = model.card
    images = [
        render_rgb(synthetic_patch(CLASSES[number % len(CLASSES)], 7, number))
        for number in range(count)
    ]
    patches = np.moveaxis(np.stack(images), -1, 1)
    settings = LogSettings(str(folder / "log"), folder / "spool", 2**26, 30)
    spool = Spool(settings.spool, settings.spool_bytes)
    spool.create()
    header = Header(
        model=card.version, classes=card.classes, statistics=statistic_names(card.bands)
    )
    recorder = Recorder(spool, header, settings, processes=1)
    reference = read_reference(model_file)
    for number in range(count):
        image = patches[number : number + 1]
        recorder.record(
            id=f"{time.time_ns():032x}",
            route="/predict",
            started=time.perf_counter(),
            observations=observe_output([image], model.run(image), card.bands, reference),
        )
    recorder.close()
    assert Uploader(spool, settings.url).upload()
    return settings.url


def test_the_service_waits_for_a_log_answers_with_a_key_and_ends_at_sigterm(
    start: Start, export_once: Callable[[str], Path], tmp_path: Path
) -> None:
    """A fresh deployment: the service to watch has not logged anything yet."""
    service = start(str(tmp_path / "log"), EUROSAT_API_KEY="secret")
    key = {"headers": {"X-API-Key": "secret"}}
    waiting = service.wait_for(lambda content: content["error"], **key)
    assert waiting["verdict"] == "too few to say"
    assert f"{tmp_path}/log holds no prediction log" in waiting["error"]
    assert service.get("/health").text == "ok\n"
    assert service.get("/drift/report", **key).status_code == 503
    assert "eurosat_drift_too_few 1.0" in service.get("/metrics").text

    write_log(export_once("onnx"), tmp_path, 310)
    judged = service.wait_for(lambda content: content["windows_judged"], **key)
    assert (judged["windows_judged"], judged["waiting"], judged["error"]) == (1, 10, None)
    assert judged["pictures"] == judged["windows"][0]["pictures"] == 300
    assert judged["model_version"] == read_reference(export_once("onnx")).model_version
    page = service.get("/drift/report", **key)
    assert page.status_code == 200
    assert escape(judged["sentence"]) in page.text
    metrics = service.get("/metrics").text
    assert "eurosat_drift_windows_total 1.0" in metrics
    assert 'eurosat_drift_p_value{family="embeddings"}' in metrics
    for path in ("/drift", "/drift/report"):
        assert service.get(path).status_code == 401
    assert service.stop() == 0
    output = service.output.read_text()
    assert "/drift/report" in output
    assert "Traceback" not in output


def test_sigterm_ends_the_service_while_it_reads_a_bucket_that_hangs(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = threading.Event()

        def listen() -> None:
            kept = [silent.accept()[0]]  # an open connection without an answer
            asked.set()
            kept[0].recv(1)

        threading.Thread(target=listen, daemon=True).start()
        emulator = f"http://127.0.0.1:{silent.getsockname()[1]}"
        service = start("gs://bucket/log", STORAGE_EMULATOR_HOST=emulator)
        assert asked.wait(30)
        assert service.get("/health").status_code == 200
        assert json.loads(service.get("/drift").text)["last_run"] is None
        assert service.stop() == 0
    assert "Traceback" not in service.output.read_text()


def test_a_bucket_without_rights_is_said_until_it_can_be_read(start: Start) -> None:
    with forbidden_bucket() as emulator:
        service = start("gs://bucket/log", STORAGE_EMULATOR_HOST=emulator)
        content = service.wait_for(lambda content: content["error"])
        assert "gs://bucket/log cannot be read" in content["error"]
        assert "does not have storage.objects.list access" in content["error"]
        time.sleep(0.5)  # further readings
        assert service.get("/health").status_code == 200
        assert service.stop() == 0
    output = service.output.read_text()
    assert output.count("does not have storage.objects.list access") == 1
    assert "Traceback" not in output
