"""No request freezes, exhausts or ends the service: it answers /health, and its memory stays."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import geotiff, synthetic_patch
from tests.serving.attack_files import FILES, picture, pipe
from tests.serving.attack_json import BODIES
from tests.serving.attacks import Attack, processes, watched
from tests.serving.conftest import Service, StartService

MEMORY_MIB = 300
"""Memory that a request may add to all processes of the service."""

DELAY_SECONDS = 0.5
"""Delay of /health that a request may cause.

``python -m benchmarks.attacks`` measures the delays on an idle machine, where they are below 0.1 s.
"""


@pytest.fixture(scope="module")
def attacked(start_service: StartService) -> Iterator[Service]:
    """A service that answers as before after all attacks, and whose log has no traceback."""
    service = start_service()
    expected = service.predict(TIFF, "a.tif").json()["probabilities"]
    yield service
    assert service.predict(TIFF, "a.tif").json()["probabilities"] == expected
    log = service.log.read_text("utf-8")
    assert "Traceback" not in log
    assert "ERROR" not in log


def check(service: Service, attack: Attack) -> None:
    with watched(service.url, service.process.pid) as found:
        answer = service.post(attack.path, **attack.arguments)
    assert answer.status_code in attack.statuses, answer.text[:500]
    if answer.status_code != 200:
        assert 20 < len(answer.json()["error"]) < 1000
    assert found["memory"] < MEMORY_MIB
    assert found["delay"] < DELAY_SECONDS


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_costs_little(attacked: Service, name: str) -> None:
    check(attacked, FILES[name]())


@pytest.mark.parametrize("name", BODIES)
def test_hostile_json_costs_little(attacked: Service, name: str) -> None:
    check(attacked, BODIES[name]())


def test_a_file_reaches_no_other_file(attacked: Service, tmp_path: Path) -> None:
    check(attacked, Attack((200,), [pipe(tmp_path)]))


def decoders(service: Service) -> list[int]:
    """Numbers of the decoder processes."""
    found = []
    for process in processes(service.process.pid):
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
    for process in decoders(service)[1:]:  # a decoder that dies idle costs an image as well
        os.kill(process, signal.SIGKILL)
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


FREEZING = """
import gc, pathlib

def collected(phase, info):
    if gc.get_freeze_count() > 10_000:
        pathlib.Path(__file__).with_name("frozen").touch()

gc.callbacks.append(collected)
"""


def test_a_collection_of_garbage_visits_no_object_of_the_imports(
    start_service: StartService, tmp_path: Path
) -> None:
    """It would hold up all requests of an API process for 0.1 s."""
    (tmp_path / "sitecustomize.py").write_text(FREEZING, "utf-8")
    service = start_service(env={"PYTHONPATH": str(tmp_path)})
    for _ in range(100):  # the first of them allocate enough for a collection
        service.get("/info")
        if (tmp_path / "frozen").exists():
            break
    assert (tmp_path / "frozen").exists()
    assert service.stop() == 0
