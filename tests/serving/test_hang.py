"""The service under a worker and an API process that hang, and after it was suspended."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from eurosat.serving import heartbeat
from eurosat.serving.heartbeat import SILENCE_SECONDS, START_SECONDS, Heartbeats
from tests.serving.conftest import Service, StartService, free_port
from tests.serving.test_recovery import PICTURE, children, forked, gone, send

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
    assert service.metric('eurosat_process_exits_total{process="worker"}') == 4
    said = service.log.read_text()
    assert "worker process 0 has given no sign of life for 4 s: it is killed" in said
    assert "worker process 0 has computed for more than 4 s: it is killed" in said
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


def gap(service: Service, ended: int) -> set[int]:
    """Statuses of /health on new connections from the end of a process to the next 200."""
    start, healths = time.monotonic(), {0}
    while Path(f"/proc/{ended}").exists():
        assert time.monotonic() - start < NOTICED
        time.sleep(0.01)
    while 200 not in healths:
        healths.add(service.get("/health").status_code)
    return healths - {0}


@pytest.mark.parametrize(
    ("number", "times"),
    # Five exits in a row end the service if they are failed starts, which these are not.
    [pytest.param(signal.SIGSTOP, 1, id="hangs"), pytest.param(signal.SIGKILL, 6, id="exits")],
)
def test_an_api_process_that_hangs_or_exits_is_replaced(
    start_service: StartService, pictures: dict[str, bytes], number: int, times: int
) -> None:
    service = start_service()
    (first,) = forked(service)
    for _ in range(times):
        (process,) = forked(service)
        below = children(process)
        assert send(service, pictures[PICTURE]).status_code == 200
        os.kill(process, number)
        with ThreadPoolExecutor(1) as threads:  # a connection that waits for the next process
            sent = threads.submit(send, service, pictures[PICTURE])
            gap(service, process)
            assert sent.result().status_code == 200
        assert gone(below)
    assert first not in forked(service)
    assert service.metric('eurosat_process_exits_total{process="api"}') == times
    assert service.metric('eurosat_process_exits_total{process="worker"}') == 0
    assert service.metric("eurosat_requests_in_flight") == 0
    said = service.log.read_text()
    assert "Traceback" not in said
    if number == signal.SIGSTOP:
        assert "api process 0 has given no sign of life for 4 s: it is killed" in said
    assert service.stop() == 0


def test_another_api_process_tells_of_the_one_that_hangs(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service("--api_servers=2")
    hanging, other = forked(service)
    os.kill(hanging, signal.SIGSTOP)
    start, statuses = time.monotonic(), []
    while not statuses or statuses[-1] == 200:
        assert time.monotonic() - start < NOTICED
        statuses.append(service.get("/health").status_code)
        assert send(service, pictures[PICTURE]).status_code == 200  # the other one answers
    assert statuses[-1] == 503
    assert gap(service, hanging) <= {200, 503}
    assert len(forked(service)) == 2
    assert other in forked(service)
    os.kill(forked(service)[-1], signal.SIGSTOP)
    assert service.stop() == 0  # also while a process hangs


def test_the_background_process_is_replaced(start_service: StartService, tmp_path: Path) -> None:
    port = free_port()
    service = start_service(f"--metrics_port={port}", f"--log_url=file://{tmp_path}")
    _, background = forked(service)
    os.kill(background, signal.SIGSTOP)
    service.url = f"http://127.0.0.1:{port}"
    start, exits = time.monotonic(), 0.0
    while exits != 1:
        assert time.monotonic() - start < NOTICED
        with suppress(requests.ConnectionError):  # the process is killed, or not there yet
            exits = service.metric('eurosat_process_exits_total{process="background"}')
    assert len(forked(service)) == 2
    assert service.stop() == 0


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
