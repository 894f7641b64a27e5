"""JSON that is made to exhaust the service: it is refused at once, in little memory."""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from eurosat.data.synthetic import synthetic_patch
from tests.conftest import jpeg
from tests.serving.conftest import Service, StartService

SIZE = 16 * 2**20 - 1000
"""Size of the bodies in bytes: a little below the limit."""

NUMBERS = 128 * 3 * 64 * 64
"""Most numbers of a request to the model, which takes 128 images at most."""

INFER = "/v2/models/eurosat/infer"


def many(start: str, entry: str, end: str, count: int = SIZE) -> bytes:
    """A body with many equal entries in a list."""
    count = min(count, (SIZE - len(start) - len(end)) // (len(entry) + 1))
    return (start + ",".join([entry] * count) + end).encode()


def tensor(data: str, shape: str = "[128,3,64,64]", datatype: str = "UINT8") -> tuple[str, str]:
    """The parts of a request around the first ``%`` in the data."""
    head = f'{{"inputs":[{{"name":"patches","shape":{shape},"datatype":"{datatype}","data":'
    start, _, end = data.partition("%")
    return head + start, end + "}]}"


def numbers(data: str, entry: str, count: int = SIZE, **options: str) -> bytes:
    """A request with many equal entries in the data."""
    start, end = tensor(data, **options)
    return many(start, entry, end, count)


FEW = tensor("%", "[1,3,64,64]")
REST = f"],{FEW[0][1:]}[1]{FEW[1]}"

BODIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "instances": ("/vertex/predict", lambda: many('{"instances":[', "{}", "]}")),
    "empty instances": ("/vertex/predict", lambda: many('{"instances":[', '{"b64":""}', "]}")),
    "images": ("/predict", lambda: many('{"images":[', '""', "]}")),
    "no images": ("/explain", lambda: many('{"images":[', "null", "]}")),
    "one image": ("/predict", lambda: many('{"images":["', "A" * (SIZE - 20), '"]}')),
    "escaped image": ("/predict", lambda: b'{"images":["' + b"\\u0041" * (SIZE // 6 - 9) + b'"]}'),
    "padding": ("/vertex/predict", lambda: b'{"instances":[{"b64":"' + b"=" * SIZE + b'"}]}'),
    "unknown fields": ("/predict", lambda: many('{"images":["AAAA"],', '"a":[{}]', "}")),
    "unknown name": ("/predict", lambda: b'{"' + b"a" * SIZE + b'":1}'),
    "repeated fields": ("/predict", lambda: many("{", '"images":[]', "}")),
    "open lists": ("/predict", lambda: b"[" * 200_000),
    "open lists of 16 MiB": ("/vertex/predict", lambda: b'{"instances":' + b"[" * SIZE),
    "open objects": (INFER, lambda: b'{"inputs":' * 200_000),
    "nested unknown field": ("/predict", lambda: b'{"a":' + b"[" * 99_999 + b"]" * 99_999 + b"}"),
    "nested data": (INFER, lambda: (FEW[0] + "[" * 99_999 + "]" * 99_999 + FEW[1]).encode()),
    "large number": (INFER, lambda: numbers("[%]", "9" * (SIZE - 200))),
    "large exponent": (INFER, lambda: numbers("[%]", "1e99999999")),
    "white space": ("/predict", lambda: b" " * SIZE),
    "NaN": (INFER, lambda: numbers("[%]", "NaN", NUMBERS)),
    "lone surrogates": ("/predict", lambda: many('{"images":[', '"\\ud800"', "]}", 10)),
    "UTF-16": ("/vertex/predict", lambda: '{"instances":[]}'.encode("utf-16")),
    "byte order mark": ("/predict", lambda: b'\xef\xbb\xbf{"images":["AAAA"]}'),
    "no UTF-8": ("/predict", lambda: b'{"images":["' + b"\xff" * SIZE + b'"]}'),
    "inputs": (INFER, lambda: many('{"inputs":[', "{}", "]}")),
    "outputs": (INFER, lambda: many('{"outputs":[', '{"name":""}', REST)),
    "few outputs": (INFER, lambda: many('{"outputs":[', '{"name":""}', REST, 900)),
    "parameters": (INFER, lambda: many('{"parameters":[', "{}", REST)),
    "long name": (INFER, lambda: numbers("[%]", "1", 1).replace(b"patches", b"x" * (SIZE - 200))),
    "shape": (INFER, lambda: numbers("[%]", "1", 9, shape=f"[{'1,' * NUMBERS}1]")),
    "numbers": (INFER, lambda: numbers("[%]", "1")),
    "as many numbers": (INFER, lambda: numbers("[%]", "65535", NUMBERS)),
    "as many lists": (INFER, lambda: numbers("[%]", "[]", NUMBERS)),
    "as many objects": (INFER, lambda: numbers("[%]", "{}", NUMBERS)),
    "as many texts": (INFER, lambda: numbers("[%]", '""', NUMBERS)),
    "one list and as many numbers": (INFER, lambda: numbers("[[1],%]", "1", NUMBERS - 1)),
    "one patch of all numbers": (INFER, lambda: numbers("[[[[%]]]]", "1", NUMBERS)),
    "files": (INFER, lambda: numbers("[%]", '""', shape="[128]", datatype="BYTES")),
}  # fmt: skip


def api_process(service: Service) -> Path:
    """The folder in /proc of the process that answers requests."""
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    found = [
        Path("/proc") / number
        for number in children.read_text("utf-8").split()
        if not any(
            name in Path(f"/proc/{number}/cmdline").read_text("utf-8")
            for name in ("spawn_main", "resource_tracker", "forkserver")
        )
    ]
    assert found
    return max(found, key=lambda folder: memory(folder, "VmRSS"))


def memory(process: Path, name: str) -> float:
    """A figure of a process' memory in MB."""
    lines = (process / "status").read_text("utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(name))
    return int(line.split()[1]) / 1000


class Watch:
    """Asks for the health, and reads the memory of the process that answers, all the time."""

    def __init__(self, service: Service) -> None:
        self.worst_delay = 0.0
        self.process = api_process(service)
        self.before = self.peak = memory(self.process, "VmRSS")
        self._service = service
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._done.wait(0.002):
                start = time.perf_counter()
                assert session.get(f"{self._service.url}/health", timeout=60).ok
                self.worst_delay = max(self.worst_delay, time.perf_counter() - start)
                self.peak = max(self.peak, memory(self.process, "VmRSS"))


@pytest.fixture(scope="module")
def attacked(start_service: StartService) -> Iterator[Service]:
    """A service that answers as before after all attacks."""
    service = start_service()
    good = {"images": [base64.b64encode(jpeg(synthetic_patch("Forest", 7, 1))).decode()]}
    expected = service.post("/predict", json=good).json()["probabilities"]
    yield service
    assert service.post("/predict", json=good).json()["probabilities"] == expected
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log


@pytest.mark.parametrize("name", BODIES)
def test_the_body_is_refused_at_once_in_little_memory(attacked: Service, name: str) -> None:
    path, make = BODIES[name]
    body = make()
    with Watch(attacked) as watch:
        answer = attacked.post(path, data=body, headers={"Content-Type": "application/json"})
    print(f"{name}: {watch.worst_delay * 1000:.0f} ms, {watch.peak - watch.before:.0f} MB")
    assert answer.status_code in (400, 413, 422)
    assert 20 < len(answer.json()["error"]) < 1000
    # Before, 7.4 GB and 25 s. Other processes of the machine delay answers, too.
    assert watch.peak - watch.before < 150
    assert watch.worst_delay < 1
