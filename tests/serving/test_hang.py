"""The service under a worker and an API process that hang, and after it was suspended."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eurosat.serving import heartbeat
from eurosat.serving.heartbeat import SILENCE_SECONDS, START_SECONDS, Heartbeats
from tests.serving.conftest import Service, StartService
from tests.serving.test_recovery import PICTURE, children, send

NOTICED = 5 + 1
"""Seconds until a process that hangs has ended; one second is for the machine of the tests."""

HANGING = """
import ctypes, os, pathlib, threading
from eurosat.inference.backends.onnx import OnnxBackend

run, order = OnnxBackend.run, pathlib.Path({order!r})
HANGS = {{
    "kernel": lambda: ctypes.CDLL(None).pause(),
    "deadlock": lambda: threading.Event().wait(),
    "lock of Python": lambda: ctypes.PyDLL(None).pause(),
}}

def hang(self, patches):
    if order.exists():
        kind = order.read_text()
        order.unlink()
        HANGS[kind]()
    return run(self, patches)

OnnxBackend.run = hang
"""


def recovers(service: Service, picture: bytes, hang: Callable[[int], object]) -> None:
    """Hang the worker; its request must be answered by the next, and /health must tell the gap."""
    (worker,) = service.workers()
    hang(worker)
    start, healths = time.monotonic(), set()
    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(send, service, picture)
        while Path(f"/proc/{worker}").exists():
            assert time.monotonic() - start < NOTICED
            time.sleep(0.05)
        while not sent.done():
            healths.add(service.get("/health").status_code)
            time.sleep(0.02)
        assert sent.result().status_code == 200
    assert healths <= {200, 503}
    assert 503 in healths
    assert service.get("/health").status_code == 200
    assert service.workers() != [worker]


def test_a_worker_that_hangs_is_replaced_and_its_requests_are_answered(
    start_service: StartService, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    order = tmp_path / "order"
    (tmp_path / "sitecustomize.py").write_text(HANGING.format(order=str(order)))
    service = start_service(env={"PYTHONPATH": str(tmp_path)})
    recovers(service, pictures[PICTURE], lambda worker: os.kill(worker, signal.SIGSTOP))
    for kind in ("kernel", "deadlock", "lock of Python"):
        recovers(service, pictures[PICTURE], lambda _, kind=kind: order.write_text(kind))  # type: ignore[misc]
    assert "eurosat_worker_exits_total 4.0" in service.get("/metrics").text
    said = service.log.read_text()
    assert "worker 0 has given no sign of life for 4 s: it is killed" in said
    assert "worker 0 has computed for more than 4 s: it is killed" in said
    assert service.stop() == 0


@pytest.mark.long
def test_another_worker_answers_for_the_worker_that_hangs(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service("--workers=2")
    first, _ = service.workers()
    os.kill(first, signal.SIGSTOP)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: send(service, pictures[PICTURE]), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert service.stop() == 0


def test_an_api_process_that_hangs_ends_the_service(start_service: StartService) -> None:
    service = start_service("--api_servers=2")
    forked, _ = [
        pid
        for pid in children(service.process.pid)
        if b"eurosat\0serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(forked, signal.SIGSTOP)
    assert service.process.wait(NOTICED + 8) == 1
    said = service.log.read_text()
    assert "has given no sign of life for 4 s: it is killed" in said
    assert "CRITICAL eurosat.serving.server: an API process ended: the service stops" in said


@pytest.mark.long
def test_a_service_that_was_suspended_goes_on(start_service: StartService) -> None:
    """As a laptop or a virtual machine that sleeps: nobody beat, and nobody hangs."""
    service = start_service()
    everyone = [service.process.pid, *children(service.process.pid)]
    workers = service.workers()
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(SILENCE_SECONDS + 2)
    os.kill(service.process.pid, signal.SIGCONT)
    time.sleep(0.2)  # the main process checks before the others run
    for pid in everyone:
        os.kill(pid, signal.SIGCONT)
    time.sleep(2)
    assert service.get("/health").status_code == 200
    assert service.workers() == workers
    assert "killed" not in service.log.read_text()
    assert service.stop() == 0


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    return clock


def test_the_start_of_a_process_has_its_own_bound(clock: Clock) -> None:
    beats = Heartbeats(1)
    beats.start(0)
    clock.now += START_SECONDS - 1
    assert beats.hang(0) is None
    assert not beats.any_alive
    clock.now += 2
    assert beats.hang(0) == "has not started within 600 s"
    assert beats.hang(0, since=clock.now - 10) is None
    beats.begin(0)
    assert beats.any_alive


def test_a_slow_model_has_more_time_for_a_batch(clock: Clock) -> None:
    beats = Heartbeats(2)
    for number, seconds in enumerate((0.01, 2.5)):
        beats.start(number)
        beats.begin(number, seconds)
    for _ in range(50):  # both threads beat, and no main thread advances
        clock.now += 1
        for number in range(2):
            beats._beats[number] = clock.now
        assert beats.hang(0) == (None if clock.now <= 1004 else "has computed for more than 4 s")
        assert beats.hang(1) is None
    assert beats.any_alive
    clock.now += 1
    assert beats.hang(1) == "has computed for more than 50 s"
    beats.step(1)
    assert beats.hang(1) is None
    clock.now += 5
    assert beats.hang(1) == "has given no sign of life for 4 s"
    assert beats.hang(1, since=clock.now - 1) is None
    assert not beats.any_alive
