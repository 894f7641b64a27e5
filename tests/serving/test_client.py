import csv
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from eurosat.cli import main
from eurosat.errors import ServiceError
from eurosat.labels import CLASSES
from eurosat.serving.client import Client
from tests.serving.conftest import Service, StartService, free_port


@pytest.fixture
def folder(tmp_path: Path, pictures: dict[str, bytes]) -> Path:
    """A folder with a picture of every class, one of them a level deeper."""
    path = tmp_path / "pictures"
    (path / "deeper").mkdir(parents=True)
    for name, data in pictures.items():
        (path / ("deeper" if name == "River.jpg" else "") / name).write_bytes(data)
    (path / "notes.txt").write_text("no picture")
    return path


@dataclass(frozen=True)
class Refusal:
    """What a door answers, once, to a request for a path."""

    path: str
    status: int
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def door(service: Service, *refusals: Refusal) -> Iterator[tuple[str, list[str]]]:
    """A server before the service that first refuses; yields its address and what was asked."""
    left = list(refusals)
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers: dict[str, str] = {}
            if left and left[0].path == self.path:
                refusal = left.pop(0)
                status, headers, content = refusal.status, refusal.headers, b"<html>No</html>"
            else:
                sent = {"Content-Type": self.headers.get("Content-Type", "")}
                address = service.url + self.path
                got = requests.request(self.command, address, data=body, headers=sent, timeout=20)
                status, content = got.status_code, got.content
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer  # noqa: N815, named by the standard library

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_a_table_names_every_file_of_a_folder(
    service: Service, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", str(folder), f"--url={service.url}"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [str(file) for file in sorted(folder.rglob("*.jpg"))]
    alone = service.predict((folder / "Forest.jpg").read_bytes()).json()
    (forest,) = [line for line in lines if line[0].endswith("Forest.jpg")]
    assert forest[1:] == [alone["label"], f"{alone['probabilities'][alone['label']]:.1%}"]


def test_a_bad_file_among_good_ones_costs_the_exit_code_only(
    service: Service, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "Bad\x1b[2J.jpg").write_bytes(b"nonsense")
    assert main(["classify", str(folder), f"--url={service.url}", "--batch=4"]) == 1
    output = capsys.readouterr().out
    (bad,) = [line for line in output.splitlines() if "rejected: " in line]
    assert "is not a JPEG, PNG or TIFF image" in bad
    assert len(output.splitlines()) == 11
    assert "\x1b" not in output, "a file's name steers the terminal"


def test_only_bad_files_are_each_given_their_own_reason(service: Service) -> None:
    with Client(service.url) as client:
        empty, text = client.classify([b"", b"nonsense"])
    assert "image 0" in str(empty.error)
    assert "the file is empty" in str(empty.error)
    assert "the file is not a JPEG" in str(text.error)


def test_json_holds_all_probabilities(service: Service, folder: Path, tmp_path: Path) -> None:
    (folder / "Bad.jpg").write_bytes(b"nonsense")
    path = tmp_path / "found.json"
    options = [f"--url={service.url}", "--format=json", f"--output={path}"]
    assert main(["classify", str(folder), *options]) == 1
    found = json.loads(path.read_text())
    assert len(found) == 11
    for entry in found:
        if entry["file"].endswith("Bad.jpg"):
            assert "cannot be decoded" in entry["error"]
            assert entry["label"] == ""
        else:
            assert list(entry["probabilities"]) == list(CLASSES)
            assert entry["probability"] == max(entry["probabilities"].values())
            assert entry["probabilities"][entry["label"]] == entry["probability"]
            assert entry["model_version"] == service.get("/info").json()["model"]["version"]


def test_csv_is_that_of_predict_and_the_reasons(
    service: Service, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "Bad.jpg").write_bytes(b"nonsense")
    assert main(["classify", str(folder), f"--url={service.url}", "--format=csv"]) == 1
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert list(rows[0]) == ["file", "predicted", "confidence", *CLASSES, "ood", "error"]
    assert [bool(row["error"]) for row in rows] == [row["file"].endswith("Bad.jpg") for row in rows]
    good = [row for row in rows if not row["error"]]
    assert len(good) == 10
    assert all(row[row["predicted"]] == row["confidence"] for row in good)


def test_many_images_come_back_in_order(service: Service, pictures: dict[str, bytes]) -> None:
    expected = {
        name: service.predict(data).json()["probabilities"] for name, data in pictures.items()
    }
    assert len({tuple(values.values()) for values in expected.values()}) == 10
    names = [*pictures] * 20
    with Client(service.url, concurrency=4) as client:
        found = list(client.classify([pictures[name] for name in names], batch=3))
    for name, prediction in zip(names, found, strict=True):
        assert prediction.probabilities == pytest.approx(expected[name], abs=1e-5)
    assert len({prediction.id for prediction in found}) == 67  # requests: 200 images by threes


def test_requests_stay_below_the_service_s_limits(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    small = start_service("--max_body_mib=0.05", "--max_images=5")
    data = pictures["Residential.jpg"]
    most_at_once = int(0.05 * 2**20) // len(data)
    assert most_at_once > 1
    with Client(small.url) as client:
        found = list(client.classify([data] * 12 + [data + bytes(60_000)] + [data]))
    assert [prediction.error is None for prediction in found] == [True] * 12 + [False, True]
    assert "MiB, and the service accepts 0.05 MiB in a request" in str(found[12].error)


def test_tiles_of_a_larger_image(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(np.zeros((64, 128, 3), np.uint8)).save(path)
    with Client(service.url) as client:
        (prediction,) = client.classify([path], tiles=True)
        (whole,) = client.classify([path])
    assert [(tile["x"], tile["y"]) for tile in prediction.tiles] == [(0, 0), (64, 0)]
    assert whole.tiles == []


def test_a_busy_service_is_asked_again_when_it_says(
    service: Service, pictures: dict[str, bytes]
) -> None:
    start = time.monotonic()
    busy = Refusal("/info", 503, {"Retry-After": "1"})
    with door(service, busy, busy) as (url, asked), Client(url) as client:
        (prediction,) = client.classify([pictures["Forest.jpg"]])
    assert prediction.label
    assert asked == ["GET /info"] * 3 + ["POST /predict"]
    assert time.monotonic() - start > 2


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_pictures_are_sent_again_as_they_were(
    status: int, service: Service, pictures: dict[str, bytes]
) -> None:
    data = pictures["River.jpg"]
    with door(service, Refusal("/predict", status)) as (url, asked), Client(url) as client:
        (prediction,) = client.classify([data])
    assert asked == ["GET /info", "POST /predict", "POST /predict"]
    assert prediction.probabilities == service.predict(data).json()["probabilities"]


def test_a_proxy_with_a_lower_limit_gets_the_pictures_one_by_one(
    service: Service, pictures: dict[str, bytes]
) -> None:
    names = ["River.jpg", "Forest.jpg", "Highway.jpg"]
    with door(service, Refusal("/predict", 413)) as (url, asked), Client(url) as client:
        found = list(client.classify([pictures[name] for name in names]))
    assert asked == ["GET /info"] + ["POST /predict"] * 4
    expected = [service.predict(pictures[name]).json()["label"] for name in names]
    assert [prediction.label for prediction in found] == expected


def test_a_service_that_stays_busy_is_given_up(service: Service) -> None:
    busy = Refusal("/info", 503)
    with (
        door(service, *[busy] * 3) as (url, asked),
        Client(url, retries=2) as client,
        pytest.raises(ServiceError, match="stayed busy or unready after all retries"),
    ):
        client.info()
    assert len(asked) == 3


def test_an_unreachable_service_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert main(["classify", str(folder), f"--url={url}", "--retries=1"]) == 2
    error = capsys.readouterr().err
    assert f"{url} cannot be reached (" in error
    assert "Connection refused" in error
    assert "eurosat serve" in error


def test_another_service_is_recognised(service: Service) -> None:
    with (
        door(service, Refusal("/info", 200)) as (url, _),
        Client(url) as client,
        pytest.raises(ServiceError, match="does not answer as 'eurosat serve' does"),
    ):
        client.info()


def test_a_redirect_is_not_followed_with_the_key(service: Service) -> None:
    elsewhere = "https://elsewhere.invalid/info"
    with (
        door(service, Refusal("/info", 302, {"Location": elsewhere})) as (url, asked),
        Client(url, api_key="secret") as client,
        pytest.raises(ServiceError, match=f"redirects to {elsewhere}"),
    ):
        client.info()
    assert len(asked) == 1


def test_the_key_comes_from_the_environment(
    start_service: StartService,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    guarded = start_service(env={"EUROSAT_API_KEY": "schlüssel"})
    command = ["classify", str(folder), f"--url={guarded.url}"]
    monkeypatch.delenv("EUROSAT_API_KEY", raising=False)
    assert main(command) == 2
    assert "refuses the API key: set EUROSAT_API_KEY" in capsys.readouterr().err
    assert main([*command, "--api_key=wrong"]) == 2
    monkeypatch.setenv("EUROSAT_API_KEY", "schlüssel")
    assert main(command) == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--batch=0"], "--batch must be more than 0"),
        (["--retries=-1"], "--retries must be 0 or more"),
        (["--url=localhost"], "localhost is not an address of a service"),
        (["--output=/proc/none/found.csv"], "/proc/none/found.csv cannot be written"),
    ],
)
def test_mistakes_in_usage_are_named(
    options: list[str], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", str(folder), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_failed_request_leaves_no_output(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "found.csv"
    url = f"http://127.0.0.1:{free_port()}"
    options = [f"--url={url}", "--retries=0", f"--output={path}"]
    assert main(["classify", str(folder), *options]) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["pictures"]


def test_the_client_needs_neither_torch_nor_litserve(service: Service, folder: Path) -> None:
    code = f"""
import sys

class Missing:
    def find_spec(self, name, *_):
        if name.split(".")[0] in {{"torch", "litserve", "lightning", "onnxruntime", "cv2"}}:
            raise ImportError(name)

sys.meta_path.insert(0, Missing())
from eurosat.cli import main
sys.exit(main(["classify", {str(folder)!r}, "--url={service.url}"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 10
