"""What `eurosat export` writes, and what the files answer."""

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from eurosat.bands import BANDS
from eurosat.cli import main
from eurosat.data.synthetic import synthetic_patch
from eurosat.errors import ModelReferenceError
from eurosat.inference import formats
from eurosat.inference.runtime import open_model
from eurosat.labels import CLASSES
from eurosat.monitoring.reference_files import read_reference
from tests.conftest import LENIENT, Run, files_in

Make = Callable[..., np.ndarray]


def similarity(first: Any, second: Any) -> float:
    """The smallest cosine similarity of the rows of two arrays."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / lengths).min())


@pytest.mark.parametrize("format", formats())
def test_a_file_answers_as_its_checkpoint_at_any_batch_size(
    format: str, exported: dict[str, Path], trained: Run, random_patches: Make
) -> None:
    checkpoint, file = open_model(trained.best, threads=1), open_model(exported[format], threads=1)
    for size in (1, 2, 7, 64, 3):
        patches = random_patches(size)
        expected, answer = checkpoint.predict(patches), file.predict(patches)
        assert answer.dtype == np.float32
        assert answer.shape == (size, 10)
        np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
        atol = 1e-5 if formats()[format].exact else 0.05
        np.testing.assert_allclose(answer, expected, atol=atol)


@pytest.mark.parametrize("format", formats())
def test_a_file_gives_the_features_of_its_checkpoint_and_a_reference_of_its_own(
    format: str, exported: dict[str, Path], trained: Run, random_patches: Make
) -> None:
    patches = random_patches(7)
    expected = open_model(trained.best, threads=1).run(patches).features
    found = open_model(exported[format], threads=1).run(patches).features
    assert found is not None
    assert similarity(found, expected) > (0.9999 if formats()[format].exact else 0.9)
    reference = read_reference(exported[format])
    assert (reference.format, reference.classes) == (format, CLASSES)
    assert len(reference.labels) == trained.json("run.json")["split"]["val"]
    own = read_reference(trained.best)  # which the training has written
    np.testing.assert_array_equal(reference.labels, own.labels)
    np.testing.assert_array_equal(reference.statistics, own.statistics)
    assert own.format == "checkpoint"


@pytest.mark.slow
def test_the_reference_of_another_checkpoint_is_refused(own_run: Run, trained: Run) -> None:
    with own_run.best.open("ab") as file:
        file.write(b"another checkpoint")
    with pytest.raises(ModelReferenceError, match="belongs to another model: its checkpoint"):
        read_reference(own_run.best)
    own_run.best.with_suffix(".reference.npz").unlink()
    with pytest.raises(ModelReferenceError, match="has no reference, because"):
        read_reference(own_run.best)


@pytest.mark.parametrize("format", formats())
def test_the_card_travels_with_the_file(
    format: str, exported: dict[str, Path], trained: Run
) -> None:
    original, card = open_model(trained.best).card, open_model(exported[format]).card
    assert card.format == format
    assert card.version == original.version + formats()[format].version_suffix
    for name in ("classes", "bands", "backbone", "checkpoint", "data", "split", "metrics"):
        assert getattr(card, name) == getattr(original, name)
    assert card.synthetic is True
    assert card.data is not None
    gate = card.export["gate"]
    assert gate["part"] == "val"
    assert gate["images"] == card.export["images"] == trained.json("run.json")["split"]["val"]
    assert set(card.export["packages"]) == set(formats()[format].packages)
    trained_at = datetime.fromtimestamp(trained.best.stat().st_mtime, UTC).replace(microsecond=0)
    assert trained_at <= datetime.fromisoformat(card.export["created"]) <= datetime.now(UTC)
    if not formats()[format].exact:
        assert gate["checkpoint_accuracy"] - gate["accuracy"] <= 0.2
        assert card.export["max_accuracy_loss"] == 20
        assert card.export["calibration_images"] == 40
    else:
        assert 0 <= gate["max_difference"] <= card.export["tolerance"] == 1e-4


def test_int8_files_compute_in_int8(exported: dict[str, Path]) -> None:
    operations = [node.op_type for node in onnx.load(exported["onnx-int8"]).graph.node]
    assert operations.count("QuantizeLinear") > 5
    assert "FakeQuantize" in exported["openvino-int8"].read_text()
    for format in ("onnx", "openvino"):
        full, small = exported[format], exported[f"{format}-int8"]
        if format == "openvino":
            full, small = full.with_suffix(".bin"), small.with_suffix(".bin")
            assert small.stat().st_size < 0.5 * full.stat().st_size


def test_the_onnx_file_has_named_ends_and_says_nothing_of_this_machine(
    exported: dict[str, Path], trained: Run
) -> None:
    model = onnx.load(exported["onnx"])
    assert [entry.name for entry in model.graph.input] == ["patches"]
    assert [entry.name for entry in model.graph.output] == ["probabilities", "features"]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    for path in exported.values():
        content = path.read_bytes()
        assert not re.search(rb"site-packages|eurosat/models|\.py\b", content), path
        assert str(trained.folder).encode() not in content


@pytest.mark.slow
def test_what_is_shown_and_the_default_output(
    own_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(own_run.best), "--version=poppy"]) == 0
    shown = capsys.readouterr().out
    path = own_run.best.with_name(f"{own_run.best.stem}-onnx.onnx")
    assert f"eurosat serve {path}" in shown
    assert "version poppy\n" in shown
    assert re.search(r"passed on 10 validation images: probabilities differ by \d", shown)
    assert re.search(r"MB \(checkpoint 0\.\d MB\)", shown)
    assert open_model(path).card.version == "poppy"


@pytest.mark.slow
def test_the_log_of_the_caller_is_left_alone(trained: Run, tmp_path: Path) -> None:
    handler = logging.NullHandler()  # pytest attaches its handlers to NNCF's logger, too
    logging.getLogger("nncf").addHandler(handler)
    output = f"--output={tmp_path / 'model.xml'}"
    try:
        assert main(["export", str(trained.best), "--format=openvino-int8", output, *LENIENT]) == 0
        assert handler.level == logging.NOTSET
    finally:
        logging.getLogger("nncf").removeHandler(handler)


@pytest.mark.parametrize("bands", ["all", '["B08", "B03"]'])
def test_bands_go_through_as_uint16(bands: str, run: Callable[..., Run]) -> None:
    trained = run("fit", f"--data.bands={bands}", "--trainer.limit_train_batches=2")
    checkpoint = open_model(trained.best, threads=1)
    assert checkpoint.card.dtype == np.uint16
    patches = np.stack([synthetic_patch(name, 3, 1) for name in CLASSES]).transpose(0, 3, 1, 2)
    positions = [[band.name for band in BANDS].index(name) for name in checkpoint.card.bands]
    patches = np.ascontiguousarray(patches[:, positions])
    expected = checkpoint.run(patches)
    chosen = tuple(formats()) if bands == "all" else ("onnx", "openvino")
    for format in chosen:
        assert main(["export", str(trained.best), f"--format={format}", *LENIENT]) == 0
        (path,) = (
            path
            for path in trained.best.parent.glob(f"*-{format}.*")
            if path.suffix == formats()[format].backend.suffix
        )
        answer = open_model(path, threads=1).run(patches)
        atol = 1e-4 if formats()[format].exact else 0.1
        np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=atol)
        assert answer.features is not None
        assert similarity(answer.features, expected.features) > (0.9999 if atol < 0.1 else 0.9)
        width = 2 * len(checkpoint.card.bands) + 2
        assert read_reference(path).statistics.shape[1] == width


@pytest.mark.parametrize(
    ("backbone", "arguments"),
    [
        ("resnet18", '{"layers": [1, 1, 1, 1]}'),
        ("convnext_atto", '{"depths": [1, 1, 1, 1]}'),
        ("vit_tiny_patch16_224", '{"img_size": 64, "patch_size": 8, "depth": 2}'),
    ],
)
def test_other_backbones(
    backbone: str, arguments: str, run: Callable[..., Run], random_patches: Make
) -> None:
    model = (f"--model.backbone={backbone}", f"--model.backbone_args={arguments}")
    limits = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--model.ema_decay=0.5")
    trained = run("fit", *limits, model=model)
    expected = open_model(trained.best, threads=1).run(random_patches(5))
    assert main(["export", str(trained.best), "--format=openvino"]) == 0  # by way of ONNX
    path = trained.best.with_name(f"{trained.best.stem}-openvino.xml")
    answer = open_model(path, threads=1).run(random_patches(5))
    np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-4)
    assert answer.features is not None
    np.testing.assert_allclose(answer.features, expected.features, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_existing_files_are_replaced_only_when_asked(
    own_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    output = own_run.folder / "model.xml"
    output.with_suffix(".bin").write_bytes(b"mine")
    arguments = ["export", str(own_run.best), "--format=openvino", f"--output={output}"]
    assert main(arguments) == 2
    assert "model.bin exists: pass --overwrite true" in capsys.readouterr().err
    assert output.with_suffix(".bin").read_bytes() == b"mine"
    assert main([*arguments, "--overwrite=true"]) == 0
    assert open_model(output).card.format == "openvino"
    assert {"model.xml", "model.bin"} <= files_in(own_run.folder)
    assert not [name for name in files_in(own_run.folder) if name.startswith(".")]


def same(first: Any, second: Any) -> bool:
    return bool(np.array_equal(first, second))


def test_the_same_export_twice_answers_the_same(
    exported: dict[str, Path], trained: Run, tmp_path: Path, random_patches: Make
) -> None:
    for format in ("onnx-int8", "openvino-int8"):
        again = tmp_path / exported[format].name
        arguments = [f"--format={format}", f"--output={again}", *LENIENT]
        assert main(["export", str(trained.best), *arguments]) == 0
        patches = random_patches(4)
        first, second = (open_model(path, threads=1) for path in (exported[format], again))
        assert same(first.predict(patches), second.predict(patches))
