"""No request freezes, exhausts or ends the service: it answers /health, and its memory stays."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.conftest import geotiff, synthetic_patch
from tests.serving.attacks import FILES, Attack, picture, pipe
from tests.serving.conftest import Service, StartService

MEMORY_MIB = 300
"""Memory that a request may add to all processes of the service."""

DELAY_SECONDS = 0.5
"""Delay of /health that a request may cause.

``python -m benchmarks.attacks`` measures the delays on an idle machine, where they are below 0.1 s.
"""


@pytest.fixture(scope="module")
def attacked(start_service: StartService) -> Service:
    return start_service()


def processes(service: Service) -> list[int]:
    """Numbers of all processes of a service."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # the process has just ended
        children.setdefault(parent, []).append(int(folder.name))
    found = [service.process.pid]
    for process in found:
        found += children.get(process, [])
    return found


def memory_mib(service: Service) -> float:
    """Memory of all processes, in which shared pages count once."""
    total = 0
    for process in processes(service):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text("utf-8").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


@contextmanager
def watched(service: Service) -> Iterator[dict[str, float]]:
    """Measure the longest delay of /health in seconds, and the memory added in MiB."""
    found = {"delay": 0.0, "memory": 0.0}
    before = memory_mib(service)
    ended = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            session.get(f"{service.url}/health", timeout=60)
            while not ended.is_set():
                start = time.perf_counter()
                session.get(f"{service.url}/health", timeout=60)
                found["delay"] = max(found["delay"], time.perf_counter() - start)
                time.sleep(0.005)

    def weigh() -> None:
        while not ended.is_set():
            found["memory"] = max(found["memory"], memory_mib(service) - before)
            time.sleep(0.02)

    threads = [threading.Thread(target=ask), threading.Thread(target=weigh)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def check(service: Service, attack: Attack) -> None:
    with watched(service) as found:
        answer = service.post(attack.path, **attack.arguments)
    assert answer.status_code == attack.status, answer.text[:500]
    if attack.status != 200:
        assert answer.json()["error"]
    assert found["memory"] < MEMORY_MIB
    assert found["delay"] < DELAY_SECONDS


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_costs_little(attacked: Service, name: str) -> None:
    check(attacked, FILES[name]())


def test_a_file_reaches_no_other_file(attacked: Service, tmp_path: Path) -> None:
    check(attacked, Attack(200, [pipe(tmp_path)]))


def decoders(service: Service) -> list[int]:
    """Numbers of the decoder processes."""
    found = []
    for process in processes(service):
        try:
            command = Path(f"/proc/{process}/cmdline").read_text("utf-8")
        except OSError:
            continue
        if "anyio.to_process" in command:
            found.append(process)
    return found


def answered(service: Service) -> None:
    """Wait until a decoder has started and a file is decoded in time."""
    deadline = time.monotonic() + 60
    while service.predict(TIFF, "a.tif").status_code != 200:
        assert time.monotonic() < deadline


def stop_decoders(service: Service) -> list[int]:
    """Stop the decoders, as a decoder that waits for ever."""
    answered(service)
    found = decoders(service)
    assert found
    for process in found:
        os.kill(process, signal.SIGSTOP)
    return found


TIFF = geotiff(synthetic_patch("Forest", 7, 1))


def test_a_time_out_frees_the_decoder(start_service: StartService) -> None:
    service = start_service("--timeout=2")
    stopped = stop_decoders(service)
    assert service.predict(TIFF, "a.tif").status_code == 504
    assert set(stopped) - set(decoders(service))
    answered(service)


def test_a_file_that_ends_its_decoder_costs_its_own_image_only(attacked: Service) -> None:
    stopped = stop_decoders(attacked)
    small = picture("JPEG", (64, 64))
    files = [("file", ("a.jpg", small)), ("file", ("b.tif", TIFF)), ("file", ("c.tif", TIFF))]
    ending = threading.Timer(0.5, lambda: [os.kill(number, signal.SIGKILL) for number in stopped])
    ending.start()
    answer = attacked.post("/predict", files=files)
    ending.join()
    first, second, third = answer.json()["predictions"]
    assert "label" in first
    assert "b.tif cannot be decoded: decoding the file takes more than" in second["error"]
    assert "label" in third
