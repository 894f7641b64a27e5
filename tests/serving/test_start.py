"""Starting the service: what it takes, what it refuses, and what it does without."""

import io
import os
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
import torch
from PIL import Image

from eurosat.cli import main
from eurosat.errors import ModelFileError
from eurosat.registry import find
from eurosat.registry.find import find_model
from tests.conftest import Run
from tests.inference.test_hostile_onnx import not_finite_for
from tests.serving.conftest import StartService, free_port, wait_ready


@pytest.fixture
def onnx_bytes(onnx_model: Path) -> bytes:
    return onnx_model.read_bytes()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence with which `eurosat serve` refuses; it must end with exit code 2."""
    assert main(["serve", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("eurosat serve: error: ")
    return error


def test_what_cannot_be_served_is_refused_in_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, onnx_model: Path, onnx_bytes: bytes
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    empty = tmp_path / "empty"
    empty.mkdir()
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(onnx_bytes[:2000])
    assert "name a model file" in refused(capsys)
    assert "there is no model file nowhere.onnx" in refused(capsys, "nowhere.onnx")
    assert "is not a model file that an installed backend reads" in refused(capsys, str(text))
    assert "is damaged, not an ONNX model" in refused(capsys, str(damaged))
    assert "must hold one model file and holds none" in refused(capsys, str(empty))
    for option in ("workers", "threads", "max_images"):
        for value in (0, -1):
            shown = refused(capsys, str(onnx_model), f"--{option}={value}")
            assert f"--{option} must be more than 0" in shown
    assert "port 0 is not allowed" in refused(capsys, str(onnx_model), "--port=0")
    assert "there is no folder" in refused(capsys, str(onnx_model), "--examples=nowhere")
    if not torch.cuda.is_available():
        assert "no CUDA device" in refused(capsys, str(onnx_model), "--device=cuda")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = [str(onnx_model), "--host=127.0.0.1", f"--port={port}"]
        reason = f"cannot bind 127.0.0.1:{port}: address already in use; choose another --port"
        assert reason in refused(capsys, *options)


class _Trap:
    """Pickles to a call that leaves a file behind."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> object:
        return (Path.touch, (self.file,))


def test_a_checkpoint_from_elsewhere_runs_no_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    checkpoint = tmp_path / "evil.ckpt"
    torch.save({"state_dict": _Trap(trap), "hyper_parameters": {}}, checkpoint)
    assert "is not a checkpoint of this project" in refused(capsys, str(checkpoint))
    assert not trap.exists()
    pickle.loads(pickle.dumps(_Trap(trap)))
    assert trap.exists()  # so the trap would have worked


@pytest.mark.parametrize(
    ("variable", "path", "message"),
    [
        ("AIP_PREDICT_ROUTE", "/predict", "the service has another route of this path"),
        ("AIP_PREDICT_ROUTE", "/v2/models/eurosat/infer", "another route of this path"),
        ("AIP_PREDICT_ROUTE", "", "which is no path"),
        ("AIP_PREDICT_ROUTE", "predict", "which is no path"),
        ("AIP_PREDICT_ROUTE", "/{name}", "which is no path"),
        ("AIP_HTTP_PORT", "8" * 5000, "is not allowed: set a port"),
        ("AIP_HTTP_PORT", "\u0668\u0664\u0661\u0662", "is not allowed: set a port"),
        ("PORT", "80", "is '80', which is not allowed: set a port"),
        ("AIP_HEALTH_ROUTE", "/info", "another route of this path"),
        ("AIP_HEALTH_ROUTE", "/page/app.js", "another route of this path"),
    ],
)
def test_a_path_of_the_platform_that_cannot_be_served_is_named(
    variable: str,
    path: str,
    message: str,
    onnx_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, path)
    shown = refused(capsys, str(onnx_model))
    assert message in shown
    assert variable in shown


def test_an_example_that_is_no_image_is_refused(
    onnx_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_text("<script>alert(1)</script>")
    shown = refused(capsys, str(onnx_model), f"--examples={tmp_path}")
    assert "the example image 'a.jpg' is no JPEG, PNG or TIFF file" in shown
    (tmp_path / "a.jpg").rename(tmp_path / os.fsdecode(b"\xff.jpg"))
    shown = refused(capsys, str(onnx_model), f"--examples={tmp_path}")
    assert r"the example image '\udcff.jpg' has a name with characters that cannot" in shown


def test_a_checkpoint_is_served_as_it_is(
    start_service: StartService, trained: Run, pictures: dict[str, bytes]
) -> None:
    service = start_service(model=trained.best)
    assert service.get("/info").json()["model"]["format"] == "checkpoint"
    assert service.predict(pictures["Forest.jpg"]).status_code == 200
    assert service.stop() == 0


def test_what_is_no_probability_is_a_failure_of_the_model(
    start_service: StartService, tmp_path: Path, onnx_model: Path
) -> None:
    model = onnx.load(onnx_model)
    not_finite_for(model, 20, 60)  # open_model classifies an empty and a brighter patch
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "model.onnx")
    service = start_service(model=tmp_path / "model.onnx")
    dark, bright = (io.BytesIO(), io.BytesIO())
    Image.new("L", (64, 64), 40).save(dark, "JPEG")
    Image.new("L", (64, 64), 200).save(bright, "JPEG")
    assert service.predict(bright.getvalue()).status_code == 200
    answer = service.predict(dark.getvalue())
    assert (answer.status_code, "the model failed" in answer.json()["error"]) == (500, True)
    assert "sum to nan" in service.log.read_text("utf-8")
    assert service.predict(bright.getvalue()).status_code == 200
    assert service.stop() == 0


def test_onnx_needs_no_torch(
    start_service: StartService, tmp_path: Path, pictures: dict[str, bytes], multispectral: bytes
) -> None:
    for package in ("torch", "lightning", "timm", "cv2", "datasets", "matplotlib"):
        (tmp_path / f"{package}.py").write_text(f"raise ImportError('no {package} here')\n")
    service = start_service(env={"PYTHONPATH": str(tmp_path)})
    assert service.predict(pictures["Forest.jpg"]).status_code == 200
    assert service.predict(multispectral).status_code == 200
    assert service.post("/explain", files={"file": pictures["River.jpg"]}).status_code == 200
    assert service.get("/examples").status_code == 200
    assert service.stop() == 0


def test_settings_come_from_a_yaml_file(
    start_service: StartService, tmp_path: Path, onnx_model: Path
) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text("max_images: 3\ntimeout: 7\n")
    service = start_service(f"--config={config}", "--timeout=8")
    limits = service.get("/info").json()["limits"]
    assert (limits["max_images"], limits["timeout"]) == (3, 8)
    assert service.stop() == 0


def test_a_model_is_found_in_a_folder_or_fetched(tmp_path: Path, onnx_bytes: bytes) -> None:
    folder = tmp_path / "artefacts"
    (folder / "model").mkdir(parents=True)
    file = folder / "model" / "a.onnx"
    file.write_bytes(onnx_bytes)
    (folder / "readme.txt").write_text("hello")
    assert find_model(str(folder), tmp_path) == file
    target = tmp_path / "fetched"
    target.mkdir()
    found = find_model(f"file://{folder}", target)
    assert found == target / "a.onnx"
    assert found.read_bytes() == onnx_bytes
    assert [path.name for path in target.iterdir()] == ["a.onnx"]
    (folder / "b.ckpt").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"holds \S*/b.ckpt, \S*/model/a.onnx: name the file"):
        find_model(str(folder), tmp_path)
    (folder / "b.ckpt").rename(folder / "a.onnx")  # files of the same name are two all the same
    with pytest.raises(ModelFileError, match=r"holds \S*/a.onnx, \S*/model/a.onnx: name the file"):
        find_model(f"file://{folder}", target)
    with pytest.raises(ModelFileError, match="cannot be fetched"):
        find_model("file:///nowhere/at/all", tmp_path)


@pytest.mark.parametrize(
    ("uri", "bound", "message"),
    [
        ("http://{}/model.onnx", "BUCKET_SECONDS", "does not answer: nothing has arrived for 0.3"),
        ("registry:production", "REGISTRY_SECONDS", "was not fetched within 0.3 s: check the"),
    ],
)
def test_an_address_that_does_not_answer_is_given_up(
    uri: str,
    bound: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(find, bound, 0.3)
    with socket.socket() as silent:  # the kernel connects callers, and nobody answers them
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = "{}:{}".format(*silent.getsockname())
        monkeypatch.setenv("EUROSAT_REGISTRY", f"http://{address}/models.git")
        assert main(["serve", uri.format(address)]) == 2
    shown = capsys.readouterr().err
    assert f"INFO eurosat.registry.find: fetching {uri.format(address)}" in shown
    assert message in shown


@pytest.mark.slow
def test_what_arrives_slowly_is_not_given_up(tmp_path: Path) -> None:
    def trickle() -> None:
        for number in range(6):
            time.sleep(0.2)
            (tmp_path / str(number)).write_bytes(b"x")

    assert find._finishes(trickle, 0.5, tmp_path)
    assert not find._finishes(trickle, 0.5)


def test_vertex_gives_the_model_and_the_port(onnx_model: Path, tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "eurosat", "serve", "--host=127.0.0.1"],
        env=os.environ
        | {"AIP_STORAGE_URI": str(onnx_model.parent), "AIP_HTTP_PORT": str(port), "PORT": "1"},
    )
    try:
        wait_ready(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        assert process.wait(30) == 0
