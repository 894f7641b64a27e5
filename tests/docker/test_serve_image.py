"""The image of the service: built, started with all restrictions, asked and stopped."""

import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.conftest import REPOSITORY
from tests.docker.engine import BASE, Engine

HARDENED = (
    *("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges"),
    "--memory=2g",
)
PICTURE = REPOSITORY / "docs" / "images" / "synthetic-forest.jpg"


@pytest.fixture
def start(engine: Engine, serve_image: str) -> Iterator[Callable[..., tuple[str, int]]]:
    """Start a hardened container of the image, and return its name and port."""
    names = []

    def run(*options: str) -> tuple[str, int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        names.append(f"eurosat-test-{uuid.uuid4().hex[:8]}")
        published = f"--publish=127.0.0.1:{port}:8000"
        engine(
            "run", "--detach", f"--name={names[-1]}", published, *HARDENED, *options, serve_image
        )
        return names[-1], port

    yield run
    for name in names:
        engine("rm", "--force", name, check=False)


def wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if requests.get(f"http://127.0.0.1:{port}/health", timeout=2).ok:
                return
        except requests.ConnectionError:
            pass
        assert time.monotonic() < deadline, "the service is not ready after a minute"
        time.sleep(0.2)


def test_the_service_answers_and_ends(
    start: Callable[..., tuple[str, int]], engine: Engine, model: Path
) -> None:
    name, port = start()
    wait_until_ready(port)
    with PICTURE.open("rb") as file:
        answer = requests.post(f"http://127.0.0.1:{port}/predict", files={"file": file}, timeout=30)
    assert answer.status_code == 200
    assert sum(answer.json()["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert requests.get(f"http://127.0.0.1:{port}/", timeout=30).ok
    check = engine.inspect(name)["Config"]["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    engine("exec", name, *check[1:])
    begun = time.monotonic()
    engine("stop", "--time=10", name)
    assert time.monotonic() - begun < 10
    state = engine.inspect(name)["State"]
    assert state["ExitCode"] == 0
    assert not state["OOMKilled"]


def test_the_image_is_small_and_holds_no_secret(engine: Engine, serve_image: str) -> None:
    image, under = engine.inspect(serve_image), engine.inspect(BASE)
    assert image["Size"] - under["Size"] <= 350e6
    settings = image["Config"]
    assert settings["User"] == "10001:10001"
    assert not [line for line in settings["Env"] if "PIP" in line or "INDEX" in line]
    labels = settings["Labels"]
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.strip()
    assert labels["org.opencontainers.image.revision"].startswith(revision)
    inside = "import importlib.util as u, os, sys; print(sys.path, os.path.exists('/etc/pip.conf'))"
    inside += "; print([n for n in ('torch', 'pip', 'openvino') if u.find_spec(n)])"
    shown = engine("run", "--rm", "--entrypoint=python3", serve_image, "-c", inside)
    assert shown.splitlines()[0].endswith("False")
    assert shown.splitlines()[1] == "[]"
    history = engine("history", "--no-trunc", "--format=json", serve_image)
    assert "://" not in history.replace("http://127.0.0.1", "")  # which the health check asks


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no .onnx or .xml file: run 'dvc repro'"),
        (["model.onnx"], "does not reach the build: copy the model to outputs/ or models/"),
    ],
)
def test_a_model_that_cannot_be_built_in_is_named(
    names: list[str], message: str, tmp_path: Path, engine: Engine
) -> None:
    for name in names:
        (tmp_path / name).touch()
    ended = subprocess.run(
        ["make", "serve-image", f"ENGINE={engine.name}", f"MODEL={tmp_path}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert ended.returncode
    assert message in ended.stderr


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.onnx", "b.onnx"], "holds /models/a.onnx, /models/b.onnx"),
        # These take as long and check no other code of this project.
        pytest.param(["a.onnx"], "/models/a.onnx", marks=pytest.mark.long),  # no model at all
        pytest.param(["a.xml"], "openvino", marks=pytest.mark.long),  # BACKEND is onnx
    ],
)
def test_a_model_that_the_image_cannot_serve_ends_the_build(
    names: list[str], message: str, engine: Engine, serve_image: str, model: Path, tmp_path: Path
) -> None:
    folder = model.parent / "other"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"no model")
    try:
        with pytest.raises(AssertionError, match=message):
            engine.make("serve-image", tmp_path, f"MODEL={folder.relative_to(REPOSITORY)}")
    finally:
        shutil.rmtree(folder)


def test_a_container_without_a_model_says_so(
    start: Callable[..., tuple[str, int]], engine: Engine, tmp_path: Path
) -> None:
    name, _ = start(f"--volume={tmp_path}:/models:ro")
    assert engine("wait", name, timeout=60) == "2"
    logs = engine("logs", name, both=True)
    assert "/models must hold one model file and holds none" in logs
