"""The reference of a model, and the out-of-distribution score."""

import base64
import dataclasses
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from eurosat.errors import ModelReferenceError
from eurosat.inference.card import ModelCard
from eurosat.inference.runtime import open_model
from eurosat.labels import CLASSES
from eurosat.monitoring.observation import observe_output
from eurosat.monitoring.reference import MAX_IMAGES, Reference, card_reference, make_reference
from eurosat.monitoring.reference_files import read_reference
from tests.conftest import REPOSITORY
from tests.inference.conftest import largest_memory

CARD = ModelCard(
    version="a-model",
    classes=CLASSES,
    bands=("R", "G", "B"),
    patch_size=64,
    backbone="patchnet",
    format="onnx",
    checkpoint="0" * 64,
)


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Features of 40 values that vary in 10 directions."""
    rng = np.random.default_rng(seed)
    axes = np.random.default_rng(99).normal(size=(10, 40))
    return (rng.normal(size=(count, 10)) @ axes + shift).astype(np.float32)


def statistics(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2 + shift, 0.6 + shift, (count, 8)).astype("f4")


def make(count: int = 1500) -> Reference:
    rng = np.random.default_rng(5)
    probabilities = rng.dirichlet(np.ones(10), count).astype(np.float32)
    labels = rng.integers(0, 10, count)
    return make_reference(CARD, features(count, 1), probabilities, statistics(count, 2), labels)


def test_images_like_the_validation_images_are_flagged_in_one_per_cent() -> None:
    reference = make()
    scores = reference.ood_scores(features(5000, 3), statistics(5000, 4))
    assert reference.can_flag
    assert abs(scores.mean() - 0.5) < 0.03
    assert 0.005 <= reference.flags(scores).mean() <= 0.015


def test_other_images_are_flagged() -> None:
    reference = make()
    other_features = reference.ood_scores(4 * features(100, 3), statistics(100, 4))
    other_statistics = reference.ood_scores(features(100, 3), statistics(100, 4, shift=0.8))
    assert reference.flags(other_features).mean() > 0.9
    assert reference.flags(other_statistics).mean() > 0.9


def test_a_reference_keeps_a_thousand_images_and_survives_its_file() -> None:
    reference = make(1500)
    assert len(reference.labels) == len(reference.embeddings) == MAX_IMAGES
    read = Reference.from_bytes(reference.to_bytes(), "file")
    assert read.classes == CLASSES
    images = features(50, 7), statistics(50, 8)
    np.testing.assert_array_equal(read.ood_scores(*images), reference.ood_scores(*images))


def test_few_validation_images_flag_nothing() -> None:
    reference = make(12)
    assert not reference.can_flag
    scores = reference.ood_scores(features(5, 1, shift=50), statistics(5, 2, shift=3))
    assert (scores > 0.9).all()
    assert not reference.flags(scores).any()
    with pytest.raises(ModelReferenceError, match="two or more validation images"):
        make(1)


def test_features_of_another_model_are_refused() -> None:
    with pytest.raises(ModelReferenceError, match="the model that computed the features"):
        make(100).ood_scores(np.zeros((2, 7), np.float32), statistics(2, 1))
    broken = features(100, 1)
    broken[3, 3] = np.nan
    with pytest.raises(ModelReferenceError, match="not finite"):
        make_reference(
            CARD, broken, np.zeros((100, 10), "f4"), statistics(100, 1), np.zeros(100, int)
        )


@pytest.mark.parametrize(
    "content", [b"", b"no archive", make(20).to_bytes()[:500], b"PK\x03\x04" + bytes(40)]
)
def test_a_damaged_reference_is_refused(content: bytes) -> None:
    with pytest.raises(ModelReferenceError, match="holds no reference of a model, or is damaged"):
        Reference.from_bytes(content, "file")


def archive(**entries: bytes) -> bytes:
    """An .npz file with a whole layout, and with entries of any content."""
    buffer = io.BytesIO()
    np.savez(buffer, layout=1)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def array(header: str) -> bytes:
    """The start of an .npy file that declares an array, and no values."""
    start = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(start).to_bytes(2, "little") + start.encode()


@pytest.mark.parametrize(
    "content",
    [
        archive(model_version=bytes(2**29)),
        archive(model_version=array("{'descr': '<f4', 'fortran_order': False, 'shape': (2**40,)}")),
        archive(
            model_version=array(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**45},)}}")
        ),
        archive(model_version=array("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}")),
        archive(model_version=array("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}")),
    ],
    ids=["bomb", "expression", "giant", "objects", "negative"],
)
def test_a_hostile_reference_is_refused_without_its_memory(content: bytes) -> None:
    before = largest_memory()
    with pytest.raises(ModelReferenceError, match="holds no reference of a model, or is damaged"):
        Reference.from_bytes(content, "file")
    assert largest_memory() - before < 100e6


def test_the_reference_in_a_card_belongs_to_the_model() -> None:
    text = base64.b64encode(make(100).to_bytes()).decode()
    card = dataclasses.replace(CARD, reference=text)
    assert card_reference(card, "model.onnx") is not None
    assert card_reference(CARD, "model.onnx") is None
    with pytest.raises(ModelReferenceError, match="belongs to another model: its checkpoint"):
        card_reference(dataclasses.replace(card, checkpoint="1" * 64), "model.onnx")
    with pytest.raises(ModelReferenceError, match="belongs to another model: its format"):
        card_reference(dataclasses.replace(card, format="onnx-int8"), "model.onnx")
    with pytest.raises(ModelReferenceError, match="damaged"):
        card_reference(dataclasses.replace(card, reference="§"), "model.onnx")


def test_a_reference_of_other_shapes_is_refused(tmp_path: Path) -> None:
    reference = make(100)
    wrong = dataclasses.replace(reference, probabilities=reference.probabilities[:, :4])
    with pytest.raises(ModelReferenceError, match="probabilities is not finite or not of shape"):
        Reference.from_bytes(wrong.to_bytes(), "file")


def test_a_file_of_an_older_version_has_neither_features_nor_a_reference() -> None:
    (path,) = (REPOSITORY / "tests/fixtures/layout-1/run/checkpoints").glob("*.onnx")
    model = open_model(path, threads=1)
    patches = np.zeros((2, *model.card.shape), model.card.dtype)
    output = model.run(patches)
    assert output.features is None
    np.testing.assert_array_equal(output.probabilities, model.predict(patches))
    assert observe_output([patches], output, model.card.bands, None)[0].ood is None
    with pytest.raises(ModelReferenceError, match="an older version of eurosat wrote the file"):
        read_reference(path)
