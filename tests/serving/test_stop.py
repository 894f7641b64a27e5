"""The order to stop, at every moment of the service's life."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.serving.conftest import free_port
from tests.serving.test_recovery import children, gone

pytestmark = pytest.mark.process

ENDING = 8
"""Seconds in which the service ends, whatever it does."""

BEFORE_THE_START = -signal.SIGTERM
"""Exit code where the signal comes before the verb has begun to run."""


def stop_after(seconds: float, model: Path, second: signal.Signals) -> int:
    """Exit code of a service that gets SIGTERM and another signal; nothing may stay behind.

    All its processes get the signals, as from Ctrl-C and from systemd.
    """
    with tempfile.TemporaryDirectory(prefix="eurosat-") as temporary:
        options = [f"--port={free_port()}", "--host=127.0.0.1", "--api_servers=2", "--workers=2"]
        process = subprocess.Popen(
            [sys.executable, "-m", "eurosat", "serve", str(model), *options],
            env=os.environ | {"TMPDIR": temporary, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        time.sleep(seconds)
        processes = children(process.pid)
        start = time.monotonic()
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(random.Random(seconds).uniform(0, 0.2))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, second)
        said, _ = process.communicate(timeout=30)
        assert time.monotonic() - start < ENDING
        assert gone(processes)
        assert "Traceback" not in said
        assert [name for name in os.listdir(temporary) if name.startswith("eurosat-")] == []
        return process.returncode


@pytest.fixture
def model() -> Path:
    (model,) = (Path(__file__).parents[1] / "fixtures").rglob("*.onnx")
    return model


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.6, 2.2, 3.0])
def test_told_to_stop_twice_while_starting_it_leaves_nothing(seconds: float, model: Path) -> None:
    second = signal.SIGINT if seconds > 1 else signal.SIGTERM
    assert stop_after(seconds, model, second) in (0, BEFORE_THE_START)


@pytest.mark.long
def test_told_to_stop_at_many_moments_it_leaves_nothing(model: Path) -> None:
    for hundredth in range(20, 400, 4):
        for second in (signal.SIGTERM, signal.SIGINT):
            code = stop_after(hundredth / 100, model, second)
            assert code in (0, BEFORE_THE_START), (hundredth, second)


def run(code: str, *signals: signal.Signals) -> tuple[int, str, float]:
    """Exit code, output and seconds of Python code that prints "ready" and gets signals."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    start = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.1)
    said = process.stdout.read()
    return process.wait(10), said, time.monotonic() - start


BLOCK = """
import ctypes, multiprocessing, time
from eurosat.serving import stop
stop.STOP_SECONDS = 1
with stop.StopOrder() as order:
    multiprocessing.Process(target=time.sleep, args=(60,)).start()
    mutex = ctypes.create_string_buffer(64)
    print('ready', flush=True)
    {body}
print("after")
"""


def test_the_order_ends_the_block_and_a_second_one_changes_nothing() -> None:
    code = BLOCK.format(body="time.sleep(30)") + "time.sleep(0.5)"
    assert run(code, signal.SIGTERM, signal.SIGTERM, signal.SIGINT)[:2] == (0, "after\n")


def test_an_order_inside_exec_does_not_change_the_exit_code() -> None:
    """Python would end by SIGINT, since it remembers a plain KeyboardInterrupt of ``exec``."""
    code = BLOCK.format(body="exec('import time; time.sleep(30)')")
    assert run(code, signal.SIGTERM)[:2] == (0, "after\n")


LOCKS = """import threading
    threading.Timer(0.5, print, ['ready'], {'flush': True}).start()
    while True: ctypes.CDLL(None).pthread_mutex_lock(mutex)"""

SWALLOWS = """
    try:
        print('ready', flush=True)
        time.sleep(30)
    except BaseException:
        print('swallowed', flush=True)
    time.sleep(30)"""


@pytest.mark.parametrize(
    "body",
    [
        """
    try:
        time.sleep(30)
    except BaseException as error:
        raise ImportError from error""",
        """
    class Cell: pass
    cell = Cell()
    callback = weakref.ref(cell, lambda _: time.sleep(30))
    del cell
    order.hold()
    order.release()""",
    ],
    ids=["another exception", "lost in a callback"],
)
def test_an_order_that_an_import_turns_into_something_else_is_an_order(body: str) -> None:
    code = "import weakref" + BLOCK.format(body=body)
    assert run(code, signal.SIGTERM)[:2] == (0, "after\n")


def test_a_process_that_is_spawned_does_not_get_the_order() -> None:
    """Ctrl-C and systemd give the order to all processes, and the worker has requests to answer."""
    body = """
    order.hold()
    worker = multiprocessing.get_context('spawn').Process(target=time.sleep, args=(60,))
    worker.start()
    order.release()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
    worker.join(0.5)
    print('ready' if worker.exitcode is None else 'dead', flush=True)
    time.sleep(30)"""
    code = "import os, signal" + BLOCK.format(body=body).replace(
        "print('ready', flush=True)", "", 1
    )
    assert run(code, signal.SIGTERM)[:2] == (0, "after\n")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (LOCKS, ""),  # no signal interrupts it
        (SWALLOWS, "swallowed\n"),
    ],
    ids=["a library computes", "a library swallows"],
)
def test_an_order_that_nobody_obeys_is_enforced(body: str, shown: str) -> None:
    # The order must come inside of the body.
    code = BLOCK.format(body=body).replace("print('ready', flush=True)", "", 1)
    exit_code, said, seconds = run(code, signal.SIGTERM)
    assert (exit_code, said) == (0, shown)
    assert 0.8 < seconds < 5


def test_an_order_waits_while_it_is_held() -> None:
    body = "time.sleep(0.3); print('whole', flush=True); order.release(); print('no')"
    code = BLOCK.format(body=body).replace("print('ready'", "order.hold(); print('ready'")
    assert run(code, signal.SIGTERM)[:2] == (0, "whole\nafter\n")
