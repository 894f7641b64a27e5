"""The registry of backends and formats, and the packages that add to it."""

import logging
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from eurosat.cli import main
from eurosat.errors import ExportError, ModelFileError
from eurosat.inference import Backend, backends, formats, open_model, register_backend
from eurosat.inference.backends import find_format
from tests.conftest import REPOSITORY, Run, files_in

PLUGIN = REPOSITORY / "tests/fixtures/toy_format"


def installed_plugin(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As if the package in a folder were installed; the registry afterwards is as before."""
    formats()  # what this project brings is registered
    for name in ("_backends", "_formats"):
        monkeypatch.setattr(backends, name, dict(getattr(backends, name)))
    monkeypatch.delitem(sys.modules, "toy_format", raising=False)
    monkeypatch.syspath_prepend(folder)
    backends._load.cache_clear()
    formats()


def test_a_plugin_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(formats())
    with monkeypatch.context() as patched:
        installed_plugin(patched, PLUGIN)
        assert set(formats()) == before | {"toy"}
        assert ".toy" in backends.model_suffixes()
    assert set(formats()) == before


def test_a_broken_plugin_is_named_and_leaves_the_others_alone(
    exported: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(PLUGIN, tmp_path, dirs_exist_ok=True)
    (tmp_path / "toy_format.py").write_text("import a_package_that_is_missing\n")
    with caplog.at_level(logging.WARNING):
        installed_plugin(monkeypatch, tmp_path)
    assert "No module named 'a_package_that_is_missing'" in caplog.text
    assert "upgrade or uninstall toy-format" in caplog.text
    assert "toy" not in formats()
    assert open_model(exported["onnx"]).card.format == "onnx"


def test_an_ending_and_a_name_have_one_owner() -> None:
    class Rival(Backend):
        suffix = ".onnx"

    with pytest.raises(ValueError, match=r"OnnxBackend already reads files that end in \.onnx"):
        register_backend(Rival)
    onnx = formats()["onnx"]
    with pytest.raises(ValueError, match="already a format onnx"):
        backends.register_format(replace(onnx, summary="another"))
    Rival.suffix = "onnx"
    with pytest.raises(ValueError, match="has no dot"):
        register_backend(Rival)


def test_an_unknown_format_is_refused_with_the_known_ones(
    own_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(own_run.best.parent)
    assert main(["export", str(own_run.best), "--format=tflite"]) == 2
    error = capsys.readouterr().err
    assert f"there is no format 'tflite': choose --format {', '.join(formats())}" in error
    assert files_in(own_run.best.parent) == before
    with pytest.raises(ExportError, match="there is no format ''"):
        find_format("")


def test_help_lists_every_format_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    shown = capsys.readouterr().out
    for name, format in formats().items():
        assert any(line.split() == [name, *format.summary.split()] for line in shown.splitlines())


@pytest.mark.parametrize(
    ("format", "package", "extra"),
    [("onnx", "onnxruntime", "serve"), ("openvino", "openvino", "serve")],
)
def test_a_package_that_runs_a_file_is_named_with_its_extra(
    format: str,
    package: str,
    extra: str,
    exported: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"needs {package}, which is not installed: pip install 'eurosat\[{extra}\]'"
    with pytest.raises(ModelFileError, match=message):
        open_model(exported[format])


def test_a_package_that_makes_a_file_is_named_with_what_the_format_says(
    trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backends, "_formats", formats())
    onnx = find_format("onnx")
    other = replace(onnx, name="other", packages=("absent_package",), install="other-formats")
    backends.register_format(other)
    assert main(["export", str(trained.best), "--format=other"]) == 2
    error = capsys.readouterr().err
    assert "needs absent_package, which is not installed: pip install 'other-formats'" in error
