"""A format that another package brings goes through every verb, and no other file knows of it."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import yaml

from eurosat.cli import main
from eurosat.inference import open_model
from eurosat.registry.find import find_model
from tests.conftest import Run
from tests.inference.test_backends import PLUGIN, installed_plugin
from tests.pipeline import Checkout
from tests.serving.conftest import StartService

WIDE = (
    *("--accuracy_margin=100", "--class_margin=100", "--calibration_margin=1"),
    *("--robustness_margin=100", "--corruption_margin=100", "--max_latency_ratio=.inf"),
)


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        installed_plugin(monkeypatch, PLUGIN)
        yield


@pytest.fixture(scope="module")
def toy(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the toy format."""
    path = tmp_path_factory.mktemp("toy") / "model.toy"
    arguments = ["--format=toy", f"--output={path}", "--max_accuracy_loss=100"]
    assert main(["export", str(trained.best), *arguments]) == 0
    return path


def test_export_writes_the_format_with_its_companion_and_card(toy: Path, trained: Run) -> None:
    assert {path.name for path in toy.parent.iterdir()} == {"model.toy", "model.npz"}
    card, original = open_model(toy).card, open_model(trained.best).card
    assert card.format == "toy"
    assert card.version == f"{original.version}-toy"
    assert card.export["packages"] == {"numpy": np.__version__}
    assert card.export["max_accuracy_loss"] == 100


@pytest.mark.slow
def test_export_lists_the_format_and_checks_the_ending(
    trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "toy            the linear classifier of a test\n" in capsys.readouterr().out
    arguments = ["export", str(trained.best), "--format=toy"]
    assert main([*arguments, f"--output={tmp_path / 'model.onnx'}"]) == 2
    assert "--format toy writes a .toy file" in capsys.readouterr().err
    (tmp_path / "model.npz").write_bytes(b"mine")
    assert main([*arguments, f"--output={tmp_path / 'model.toy'}"]) == 2
    assert "model.npz exists: pass --overwrite true" in capsys.readouterr().err


def test_the_gate_takes_both_files(toy: Path, trained: Run, tmp_path: Path) -> None:
    arguments = ["--severities=[3]", "--threads=1", f"--output={tmp_path}"]
    assert main(["gate", str(toy), f"--against={trained.best}", *WIDE, *arguments]) == 0
    candidate = json.loads((tmp_path / "gate.json").read_text())["candidate"]
    assert candidate["format"] == "toy"
    assert set(candidate["md5"]) == {"model.toy", "model.npz"}


def test_a_folder_and_a_bucket_give_both_files(toy: Path, tmp_path: Path) -> None:
    assert find_model(str(toy.parent), tmp_path) == toy
    bucket = fsspec.filesystem("memory")
    for path in toy.parent.iterdir():
        bucket.put_file(str(path), f"/models/{path.name}")
    try:
        found = find_model("memory://models", tmp_path)
    finally:
        bucket.rm("/models", recursive=True)
    assert open_model(found).card == open_model(toy).card


def test_a_registered_model_is_served_and_classifies(
    toy: Path,
    start_service: StartService,
    pictures: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repository = Checkout(tmp_path / "repository")
    models = repository.folder / "models"
    models.mkdir(parents=True)
    repository.run("git", "init", "--quiet", "--initial-branch=main")
    repository.run("dvc", "init", "--quiet")
    artifacts = {"eurosat": {"path": "models/model.toy", "type": "model"}}
    (repository.folder / "dvc.yaml").write_text(yaml.safe_dump({"artifacts": artifacts}))
    for path in toy.parent.iterdir():
        (models / path.name).write_bytes(path.read_bytes())
    repository.run("dvc", "add", "models/model.toy", "models/model.npz")
    repository.commit()
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Tester")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "tester@example.org")
    monkeypatch.delenv("EUROSAT_REGISTRY", raising=False)
    monkeypatch.chdir(repository.folder)
    assert main(["promote", "models/model.toy", "--stage=production"]) == 0

    # The service's processes find the plugin as an installed package: by its entry point.
    python_path = os.pathsep.join([str(PLUGIN), os.environ.get("PYTHONPATH", "")])
    service = start_service(
        model=Path("registry:production"),
        env={"PYTHONPATH": python_path, "EUROSAT_REGISTRY": str(repository.folder)},
    )
    assert service.get("/info").json()["model"]["format"] == "toy"
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    output = tmp_path / "classes.csv"
    capsys.readouterr()
    asked = ["classify", str(folder), f"--url={service.url}", "--format=csv", f"--output={output}"]
    assert main(asked) == 0
    rows = list(csv.DictReader(output.open()))
    assert len(rows) == len(pictures)
    assert all(float(row["confidence"]) >= 0.1 for row in rows)
    assert service.stop() == 0
