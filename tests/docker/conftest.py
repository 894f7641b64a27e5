"""The container engine and the image of the service."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docker.engine import BASE, Engine, find_engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    """An engine that can run containers; without an engine the test is skipped."""
    found = find_engine()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def base(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The base image, which is made once per machine."""
    if not engine("images", "--quiet", BASE):
        engine.make_base(tmp_path_factory.mktemp("base"))
    return BASE


@pytest.fixture(scope="session")
def model(export_once, engine: Engine) -> Iterator[Path]:
    """An ONNX file in the build's folder."""
    path = REPOSITORY / "outputs" / "container-test" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(export_once("onnx"), path)
    yield path
    shutil.rmtree(path.parent)


@pytest.fixture(scope="session")
def serve_image(
    engine: Engine, base: str, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The image of the service with the model."""
    place = model.relative_to(REPOSITORY)
    engine.make("serve-image", tmp_path_factory.mktemp("build"), f"MODEL={place}")
    return "eurosat-serve"
