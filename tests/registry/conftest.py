"""A repository with one model under DVC's care, to register it in."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from eurosat.cli import main
from eurosat.inference.runtime import open_model
from tests.pipeline import Checkout
from tests.session_folder import SessionFolder

MODEL = "models/eurosat.onnx"


@pytest.fixture(scope="session")
def model_files(export_once: Callable[[str], Path]) -> dict[str, Path]:
    """A model as ONNX and as OpenVINO file."""
    return {format: export_once(format) for format in ("onnx", "openvino")}


@pytest.fixture(scope="session")
def template(model_files: dict[str, Path], session_folder: SessionFolder) -> Path:
    """A repository with one committed model under DVC's care."""

    def make(folder: Path) -> None:
        made = Checkout(folder)
        (folder / "models").mkdir()
        made.run("git", "init", "--quiet", "--initial-branch=main")
        made.run("dvc", "init", "--quiet")
        made.run("dvc", "remote", "add", "--default", "storage", "gs://your-bucket/eurosat")
        artifacts = {"eurosat": {"path": "models/eurosat.onnx", "type": "model"}}
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"artifacts": artifacts}))
        shutil.copy(model_files["onnx"], folder / "models")
        made.run("dvc", "add", "models/eurosat.onnx")
        made.commit()

    return session_folder("registry", make)


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


def promote_openvino(repository: Checkout, model_files: dict[str, Path]) -> None:
    """Commit both files of an OpenVINO model, and assign the model to staging."""
    for part in (model_files["openvino"], model_files["openvino"].with_suffix(".bin")):
        shutil.copy(part, repository.folder / "models")
    repository.run("dvc", "add", "models/eurosat.xml", "models/eurosat.bin")
    artifacts = {"eurosat": {"path": "models/eurosat.xml", "type": "model"}}
    (repository.folder / "dvc.yaml").write_text(yaml.safe_dump({"artifacts": artifacts}))
    repository.commit()
    assert main(["promote", "models/eurosat.xml"]) == 0
