"""A repository with one model under DVC's care, to register it in."""

import shutil
from pathlib import Path

import pytest
import yaml

from eurosat.cli import main
from eurosat.inference.runtime import open_model
from tests.conftest import Run
from tests.pipeline import Checkout

MODEL = "models/eurosat.onnx"


@pytest.fixture(scope="session")
def model_files(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model as ONNX and as OpenVINO file."""
    folder = tmp_path_factory.mktemp("models")
    files = {"onnx": folder / "eurosat.onnx", "openvino": folder / "eurosat.xml"}
    for format, path in files.items():
        assert main(["export", str(trained.best), f"--format={format}", f"--output={path}"]) == 0
    return files


@pytest.fixture(scope="session")
def template(model_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one committed model under DVC's care."""
    made = Checkout(tmp_path_factory.mktemp("registry") / "repository")
    (made.folder / "models").mkdir(parents=True)
    made.run("git", "init", "--quiet", "--initial-branch=main")
    made.run("dvc", "init", "--quiet")
    made.run("dvc", "remote", "add", "--default", "storage", "gs://your-bucket/eurosat")
    artifacts = {"eurosat": {"path": "models/eurosat.onnx", "type": "model"}}
    (made.folder / "dvc.yaml").write_text(yaml.safe_dump({"artifacts": artifacts}))
    shutil.copy(model_files["onnx"], made.folder / "models")
    made.run("dvc", "add", "models/eurosat.onnx")
    made.commit()
    return made.folder


@pytest.fixture
def repository(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A copy of it to change, which the command line is called in; its origin is beside it."""
    shutil.copytree(template, tmp_path / "repository")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Tester")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "tester@example.org")
    monkeypatch.delenv("EUROSAT_REGISTRY", raising=False)
    monkeypatch.chdir(tmp_path / "repository")
    checkout = Checkout(tmp_path / "repository")
    checkout.run("git", "init", "--quiet", "--bare", "--initial-branch=main", "../origin.git")
    checkout.run("git", "remote", "add", "origin", "../origin.git")
    checkout.run("git", "push", "--quiet", "origin", "main")
    return checkout


def tags(checkout: Checkout) -> set[str]:
    return set(checkout.run("git", "tag").split())


def change_model(checkout: Checkout, model_files: dict[str, Path]) -> None:
    """Commit another model file under the same name."""
    card = open_model(model_files["onnx"]).card
    path = checkout.folder / "models/eurosat.onnx"
    import onnx

    proto = onnx.load(model_files["onnx"])
    onnx.helper.set_model_props(proto, {"eurosat": card.to_json(), "note": "another"})
    path.unlink()
    onnx.save(proto, path)
    checkout.run("dvc", "add", "models/eurosat.onnx")
    checkout.commit("Another model")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The error of a command that must fail with exit code 2."""
    assert main(arguments) == 2
    return capsys.readouterr().err
