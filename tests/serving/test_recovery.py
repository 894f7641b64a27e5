"""The service under a dead worker, a hung one, too much load, and the order to stop.

A worker is hung by SIGSTOP and killed by SIGKILL, from outside, as a kernel would do it.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import Value
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import requests

from eurosat.serving.dispatcher import Dispatcher, WorkerLostError
from eurosat.serving.heartbeat import Heartbeats
from eurosat.serving.transport import AnswerTransport, RequestChannel
from tests.serving.conftest import Service, StartService, free_port

PICTURE = "Forest.jpg"

ENDING = 10
"""Seconds until Docker kills what it has told to stop; the service needs 7 at most."""


def send(service: Service, data: bytes) -> requests.Response:
    """A request on a connection of its own."""
    return requests.post(f"{service.url}/predict", files={"file": data}, timeout=30)


@contextmanager
def hung_worker(service: Service) -> Iterator[int]:
    """The worker's process number, while it stands still."""
    (worker,) = service.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        yield worker
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)


def send_and_wait(
    service: Service, data: bytes, count: int, threads: ThreadPoolExecutor
) -> list[Future[requests.Response]]:
    """Send requests to a hung service, and wait until it has taken them on."""
    sent = [threads.submit(send, service, data) for _ in range(count)]
    service.wait_in_flight(count)
    return sent


def test_more_than_it_takes_on_gets_503_at_once(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service("--max_in_flight=3")
    with ThreadPoolExecutor(3) as threads:
        with hung_worker(service):
            sent = send_and_wait(service, pictures[PICTURE], 3, threads)
            refused = send(service, pictures[PICTURE])  # no answer could come: it does not wait
            assert refused.status_code == 503
            assert refused.headers["Retry-After"] == "1"
            assert "3 requests are being answered" in refused.json()["error"]
            assert service.get("/health").status_code == 200  # others are not shut out of that
        assert [future.result().status_code for future in sent] == [200, 200, 200]
    assert send(service, pictures[PICTURE]).status_code == 200


def test_no_answer_in_time_gets_504(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service("--timeout=1")
    with hung_worker(service):
        start = time.perf_counter()
        late = send(service, pictures[PICTURE])
        assert time.perf_counter() - start > 0.9
        assert late.status_code == 504
        assert late.json()["error"] == (
            "the answer took longer than the limit of 1 s: send fewer images, or try again"
        )
    assert send(service, pictures[PICTURE]).status_code == 200


def test_requests_of_a_killed_worker_are_answered_by_the_next(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service()
    with ThreadPoolExecutor(5) as threads:
        with hung_worker(service) as worker:
            sent = send_and_wait(service, pictures[PICTURE], 5, threads)
            os.kill(worker, signal.SIGKILL)
        assert [future.result().status_code for future in sent] == [200] * 5
    assert service.workers() != [worker]
    assert service.metric('eurosat_process_exits_total{process="worker"}') == 1


def test_under_load_a_killed_worker_costs_no_answer(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service("--workers=2")
    stop = threading.Event()
    statuses: list[int] = []

    def load() -> None:
        with requests.Session() as session:
            while not stop.is_set():
                files = {"file": pictures[PICTURE]}
                answer = session.post(f"{service.url}/predict", files=files, timeout=30)
                statuses.append(answer.status_code)

    def wait_for_answers(count: int) -> None:
        deadline, wanted = time.monotonic() + 60, statuses.count(200) + count
        while statuses.count(200) < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(load) for _ in range(4)]
        try:
            for _ in range(2):
                wait_for_answers(20)
                os.kill(service.workers()[0], signal.SIGKILL)
            wait_for_answers(20)
        finally:
            stop.set()
        for future in running:
            future.result()  # raises if a request got no answer
    assert set(statuses) <= {200, 503, 504}


def test_health_says_when_no_worker_can_answer(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service()
    (worker,) = service.workers()
    os.kill(worker, signal.SIGKILL)
    seen, deadline = set(), time.monotonic() + 60
    while 503 not in seen or service.get("/health").status_code != 200:
        seen.add(service.get("/health").status_code)
        assert time.monotonic() < deadline
    assert send(service, pictures[PICTURE]).status_code == 200


def test_workers_that_cannot_start_end_the_service(start_service: StartService) -> None:
    service = start_service()
    deadline = time.monotonic() + 60
    while service.process.poll() is None:
        for worker in service.workers():
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert service.process.returncode == 1
    assert (
        "CRITICAL eurosat.serving.server: worker process 0 has exited 5 times before it"
        in service.log.read_text()
    )


def test_a_worker_that_exits_during_the_start_ends_the_service(onnx_model: Path) -> None:
    """As the kernel kills a worker whose model needs too much memory."""
    command = [sys.executable, "-m", "eurosat", "serve", str(onnx_model), f"--port={free_port()}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    service = Service("", cast(Any, process), Path(), 0)
    deadline = time.monotonic() + 60
    while not (workers := service.workers()):
        assert time.monotonic() < deadline
    os.kill(workers[0], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "all workers exited while they opened the model (exit codes [-9])" in said


def children(pid: int) -> list[int]:
    """Process numbers of all descendants."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(folder.name)] = int(fields[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def forked(service: Service) -> list[int]:
    """Process numbers of the API processes and the background process, in the order of starts."""
    return sorted(
        pid
        for pid in children(service.process.pid)
        if b"eurosat\0serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )


def tracker(processes: list[int]) -> int:
    """The resource tracker of `multiprocessing`, which ends after all processes."""
    (found,) = (
        pid for pid in processes if b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    return found


def gone(processes: list[int]) -> bool:
    deadline = time.monotonic() + ENDING
    while time.monotonic() < deadline:
        alive = [
            pid
            for pid in processes
            if Path(f"/proc/{pid}").exists()
            and " Z " not in Path(f"/proc/{pid}/stat").read_text("utf-8")
        ]
        if not alive:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("everyone", [False, True], ids=["main", "everyone"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_answers_what_it_has_and_ends(
    start_service: StartService, pictures: dict[str, bytes], number: signal.Signals, everyone: bool
) -> None:
    """Ctrl-C and systemd signal all processes at once; a second Ctrl-C changes nothing."""
    service = start_service()
    processes = children(service.process.pid)
    assert len(processes) >= 3
    with ThreadPoolExecutor(4) as threads:
        with hung_worker(service):
            sent = send_and_wait(service, pictures[PICTURE], 4, threads)
            for one in (number, signal.SIGINT):
                for pid in (service.process.pid, *(processes if everyone else ())):
                    with suppress(ProcessLookupError):  # a decoder process that was just starting
                        os.kill(pid, one)
                time.sleep(0.3)
        assert [future.result().status_code for future in sent] == [200] * 4
    assert service.process.wait(ENDING) == 0
    assert gone(processes)
    assert "Traceback" not in service.log.read_text()


def test_a_hung_worker_does_not_keep_it_from_stopping(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service()
    processes = children(service.process.pid)
    with ThreadPoolExecutor(1) as threads, hung_worker(service):
        send_and_wait(service, pictures[PICTURE], 1, threads)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(ENDING) == 0
        assert gone(processes)


def test_no_process_outlives_a_killed_service(start_service: StartService) -> None:
    service = start_service("--api_servers=2")
    processes = children(service.process.pid)
    stopped = forked(service)[0]  # has all pipes of the main process, and cannot notice its end
    os.kill(stopped, signal.SIGSTOP)
    service.process.kill()
    service.process.wait()
    below = {stopped, *children(stopped), tracker(processes)}
    assert gone([pid for pid in processes if pid not in below])
    os.kill(stopped, signal.SIGCONT)
    assert gone(processes)


def test_a_process_that_starts_does_not_outlive_a_killed_service(
    start_service: StartService,
) -> None:
    service = start_service()
    (process,) = forked(service)
    os.kill(process, signal.SIGKILL)
    while forked(service) in ([process], []):
        pass
    processes = children(service.process.pid)
    service.process.kill()
    service.process.wait()
    assert gone(processes)


def test_no_decoder_process_outlives_its_api_process(start_service: StartService) -> None:
    service = start_service()
    (process,) = forked(service)
    while not (decoders := children(process)):
        time.sleep(0.02)
    time.sleep(1)  # it is prepared
    for pid in (*decoders, process):
        os.kill(pid, signal.SIGSTOP)
    os.kill(process, signal.SIGKILL)
    assert gone(decoders)


def test_a_request_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    """Two workers that take a request and vanish; told here by hand, as the main process does."""
    worker_exits: Any = Value("L", 0)
    channel = RequestChannel(tmp_path, 1)
    taken = 0

    def worker() -> None:
        nonlocal taken
        own = RequestChannel(tmp_path, 1)
        for _ in range(2):
            own.get(timeout=10)
            taken += 1
            worker_exits.value += 1

    async def ask() -> None:
        dispatcher = Dispatcher(worker_exits)
        dispatcher.start(channel, AnswerTransport(tmp_path, 1), 0, Heartbeats(1), Heartbeats(1))
        watch = asyncio.create_task(dispatcher.run())
        with pytest.raises(WorkerLostError):
            await asyncio.wait_for(dispatcher.predict(np.zeros((1, 3, 64, 64), np.uint8)), 20)
        watch.cancel()

    thread = threading.Thread(target=worker)
    thread.start()
    asyncio.run(ask())
    thread.join()
    assert taken == 2
