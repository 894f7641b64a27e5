"""The main process's supervision of the other processes."""

import errno
import multiprocessing
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from eurosat.serving import monitor
from eurosat.serving.heartbeat import Heartbeats
from eurosat.serving.metrics import PROCESS_EXITS, ProcessKind
from eurosat.serving.monitor import Monitor, supervised
from eurosat.serving.stop import StopOrder, Stopped


def run_process(_: int = 0) -> BaseProcess:
    """Fork a process that ends at once."""
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    return process


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the processes whose exits are counted, in the order of the exits."""
    counted: list[str] = []

    class Child:
        def __init__(self, kind: str) -> None:
            self.kind = kind

        def inc(self) -> None:
            counted.append(self.kind)

    monkeypatch.setattr(PROCESS_EXITS, "labels", Child)
    monkeypatch.setattr(monitor.metrics, "process_ended", lambda number: None)
    return counted


def test_a_start_that_fails_is_tried_again_and_its_exit_is_counted_once(
    exits: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    stop, heartbeats, starts = StopOrder(), Heartbeats(1), 0
    heartbeats.start(0)
    heartbeats.begin(0)

    def start(number: int) -> BaseProcess:
        nonlocal starts
        starts += 1
        if starts < 3:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        stop.given = True
        return run_process()

    ended = run_process()
    with pytest.raises(Stopped):
        Monitor(supervised(ProcessKind.API, heartbeats, start, [ended]), stop).run()
    assert (starts, exits) == (3, ["api"])
    failure = "api process 0 cannot be started: Resource temporarily unavailable"
    assert [record.getMessage() for record in caplog.records] == [
        "api process 0 exited with code 0",
        failure,
        failure,
    ]


def test_a_process_that_exits_before_its_first_heartbeat_is_given_up_after_five_starts(
    exits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "_CHECK_SECONDS", 0.05)
    monkeypatch.setattr(monitor, "_LONGEST_PAUSE", 0.1)
    heartbeats = Heartbeats(1)
    processes = supervised(ProcessKind.WORKER, heartbeats, run_process, [run_process()])
    reason = Monitor(processes, StopOrder()).run()
    assert reason == "worker process 0 has exited 5 times before it was ready"
    assert exits == ["worker"] * 5


@pytest.mark.parametrize(
    ("seconds", "killed"),
    [([1.0, 100.0, 1.0], False), ([1.0] * 6, True)],
    ids=["suspended", "silent"],
)
def test_silence_proves_nothing_if_the_service_was_suspended_while_a_start_was_due(
    seconds: list[float], killed: bool, exits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1.0
    steps = iter(seconds)
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    heartbeats = Heartbeats(2, start_seconds=1e9)
    for number in range(2):
        heartbeats.start(number)
    heartbeats.begin(0)  # process 1 exits before its first heartbeat

    def wait(sentinels: Any, timeout: float) -> None:
        nonlocal clock
        for step in steps:
            clock += step
            return
        raise Stopped

    monkeypatch.setattr(monitor, "wait", wait)
    silent, ended = multiprocessing.get_context("fork").Process(target=signal.pause), run_process()
    silent.start()
    ended.join()
    processes = supervised(ProcessKind.API, heartbeats, run_process, [silent, ended])
    try:
        with pytest.raises(Stopped):
            Monitor(processes, StopOrder()).run()
        assert silent.is_alive() != killed
    finally:
        silent.kill()


@pytest.fixture
def same_handlers() -> Iterator[None]:
    """Restore the handlers, since an order that was given has further signals ignored."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("same_handlers")
def test_an_error_after_the_order_to_stop_is_logged_unless_a_library_made_it_of_the_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with StopOrder() as order:
        try:
            order.given = True
            raise Stopped
        except Stopped as error:
            raise ImportError("a module could not be imported") from error
    assert not caplog.records
    with StopOrder() as order:
        order.given = True
        raise ValueError("no such layer")
    assert caplog.messages == ["after the order to stop: ValueError: no such layer"]
