"""What does not pass, or cannot be written, leaves nothing behind."""

import json
import re
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from eurosat.cli import main
from eurosat.inference import formats
from tests.conftest import Run, files_in


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """The error of an export that is refused."""
    assert main(["export", *map(str, arguments)]) == code
    error = capsys.readouterr().err
    assert "eurosat export: error: " in error
    assert "Traceback" not in error
    return error.rpartition("error: ")[2]


@pytest.mark.slow
@pytest.mark.parametrize(("format", "ending"), [("onnx", "onnx"), ("openvino", "xml")])
def test_a_file_that_differs_is_not_written(
    format: str, ending: str, own_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    output = own_run.folder / f"model.{ending}"
    output.write_text("the one in use")
    before = files_in(own_run.folder)
    options = (f"--format={format}", f"--output={output}", "--overwrite=true", "--tolerance=0")
    error = refused(capsys, 1, own_run.best, *options)
    assert "more than the tolerance of 0" in error
    assert "on 10 validation images" in error
    assert "--tolerance" in error
    assert files_in(own_run.folder) == before
    assert output.read_text() == "the one in use"


@pytest.fixture(scope="module")
def accurate(train_once: Callable[..., Run]) -> Run:
    """A run that is better than chance."""
    options = ["--model.optimizer=torch.optim.AdamW", "--model.optimizer.init_args.lr=0.01"]
    return train_once("accurate", *options, "--trainer.max_epochs=15", "--test_after_fit=false")


@pytest.mark.parametrize("format", ["onnx-int8", "openvino-int8"])
def test_int8_that_loses_accuracy_is_not_written(
    format: str, accurate: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(accurate.folder, tmp_path / "run")
    own_run = Run(tmp_path / "run")
    # One enormous feature that the head ignores: float32 does not mind, but 256 steps up to it
    # leave nothing of the others.
    checkpoint = torch.load(own_run.best, weights_only=True)
    weights = checkpoint["state_dict"]
    weights["backbone.stages.1.2.body.1.1.bias"][0] = 1e5
    weights["backbone.head.weight"][:, [0, 16]] = 0
    torch.save(checkpoint, own_run.best)
    before = files_in(own_run.best.parent)
    error = refused(capsys, 1, own_run.best, f"--format={format}", "--calibration_images=20")
    assert "points of accuracy on 10 validation images" in error
    assert "more than 1;" in error  # synthetic data
    assert "of the predictions changed" in error
    assert files_in(own_run.best.parent) == before
    record = own_run.json("run.json")
    (own_run.folder / "run.json").write_text(json.dumps(record | {"synthetic": False}))
    error = refused(capsys, 1, own_run.best, f"--format={format}", "--calibration_images=20")
    assert "more than 0.3;" in error
    lenient = (f"--format={format}", "--calibration_images=20", "--max_accuracy_loss=100")
    assert main(["export", str(own_run.best), *lenient]) == 0  # the loss was all that was wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tolerance=-1"], "--tolerance must be 0 or more, got -1"),
        (["--tolerance=.nan"], "--tolerance must be 0 or more, got nan"),
        (["--max_accuracy_loss=-100"], "--max_accuracy_loss must be 0 or more"),
        (["--images=0"], "--images must be 1 or more"),
        (["--calibration_images=0"], "--calibration_images must be 1 or more"),
        (["--output=model.onnx", "--format=openvino"], "--format openvino writes a .xml file"),
        (["--output=file/model.onnx"], "cannot be written (File exists)"),
        (["--output=folder.onnx"], "folder.onnx is a folder"),
        (["--output=there.onnx"], "there.onnx exists: pass --overwrite true"),
        (["--source=nowhere.zip"], "no data at nowhere.zip"),
    ],
)
def test_mistakes_in_usage(
    options: list[str],
    message: str,
    trained: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("there.onnx").touch()
    Path("folder.onnx").mkdir()
    if not any(option.startswith("--output") for option in options):
        options = [*options, "--output=model.onnx"]
    before = files_in(tmp_path)
    assert message in refused(capsys, 2, trained.best, *options)
    assert files_in(tmp_path) == before


def test_the_checkpoint_must_be_one(
    exported: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    assert "there is no checkpoint" in refused(capsys, 2, tmp_path / "nowhere.ckpt")
    assert "there is no checkpoint" in refused(capsys, 2, exported["onnx"])
    assert "is not a checkpoint of this project" in refused(capsys, 2, foreign)


@pytest.mark.parametrize(
    ("format", "package"),
    [("onnx", "onnx"), ("onnx", "onnxscript"), ("openvino-int8", "nncf"), ("openvino", "openvino")],
)
def test_missing_packages_are_named(
    format: str,
    package: str,
    trained: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    error = refused(capsys, 2, trained.best, f"--format={format}")
    assert f"needs {package}, which is not installed: pip install 'eurosat[export]'" in error


@pytest.mark.slow
@pytest.mark.parametrize("format", formats())
def test_a_full_disk_leaves_nothing(
    format: str, own_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(own_run.best.parent)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # as a full disk: writes fail
    try:
        error = refused(capsys, 2, own_run.best, f"--format={format}", "--max_accuracy_loss=100")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert re.search("cannot be written.*free space", error)
    assert files_in(own_run.best.parent) == before


@pytest.mark.slow
def test_without_its_run_folder_a_checkpoint_needs_a_source(
    trained: Run,
    store_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone = tmp_path / "a" / "b" / "alone.ckpt"
    alone.parent.mkdir(parents=True)
    shutil.copy(trained.best, alone)
    assert "config.yaml two folders above it" in refused(capsys, 2, alone)
    assert main(["export", str(alone), "--source=synthetic", f"--root={store_root}"]) == 0
    assert "does not say which images it was trained and tested on" in capsys.readouterr().err
    assert (alone.parent / "alone-onnx.onnx").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "value", "differing"),
    [("split_seed", 1, "the split"), ("synthetic_images", 100, "the images and the split")],
)
def test_other_images_than_the_run_had_are_refused_unless_chosen(
    setting: str,
    value: int,
    differing: str,
    own_run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = own_run.folder / "config.yaml"
    content = yaml.safe_load(config.read_text())
    content["data"][setting] = value
    config.write_text(yaml.safe_dump(content))
    assert f"{differing} found at synthetic differ" in refused(capsys, 2, own_run.best)
    assert main(["export", str(own_run.best), "--source=synthetic"]) == 0
    assert f"{differing} of synthetic differ from the run's" in capsys.readouterr().err


def test_a_damaged_configuration_is_named(own_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (own_run.folder / "config.yaml").write_text("data: [")
    assert "is not the configuration of a run" in refused(capsys, 2, own_run.best)
