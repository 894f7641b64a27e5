"""Model cards of other versions are read; what is wrong in a card is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurosat.cli import main
from eurosat.errors import ModelFileError
from eurosat.inference import ModelCard, open_model
from tests.conftest import REPOSITORY, jpeg

LAYOUT_1 = REPOSITORY / "tests/fixtures/layout-1/run"
"""A run folder that an earlier revision wrote."""

FILES = [
    LAYOUT_1 / "checkpoints" / name
    for name in ("best-epoch00.ckpt", "best-epoch00-onnx.onnx", "best-epoch00-openvino.xml")
]

Random = Callable[..., np.ndarray]


@pytest.fixture
def content() -> dict[str, Any]:
    """A card of layout 1 as JSON."""
    path = LAYOUT_1 / "checkpoints/best-epoch00-onnx.onnx"
    found: dict[str, Any] = json.loads(open_model(path, threads=1).card.to_json())
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.suffix)
def test_files_of_layout_1_open_and_answer_alike(path: Path, random_patches: Random) -> None:
    model = open_model(path, threads=1)
    assert (model.card.layout, model.card.patch_size, len(model.card.classes)) == (1, 64, 10)
    expected = open_model(LAYOUT_1 / "checkpoints/best-epoch00.ckpt", threads=1)
    patches = random_patches(3)
    np.testing.assert_allclose(model.predict(patches), expected.predict(patches), atol=1e-5)
    assert model.card.metrics == json.loads((LAYOUT_1 / "metrics.json").read_text())


def test_a_checkpoint_of_layout_1_predicts(
    patches: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for stem in ("Forest_1", "River_2"):
        (tmp_path / "pictures" / f"{stem}.jpg").write_bytes(jpeg(patches[stem]))
    options = ["--data.images=pictures", "--trainer.accelerator=cpu"]
    options += ["--predictions.path=classes.csv", f"--ckpt_path={FILES[0]}"]
    assert main(["predict", *options]) == 0
    assert len((tmp_path / "classes.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_a_file_of_layout_1_goes_through_the_gate(store_root: Path, tmp_path: Path) -> None:
    baseline, candidate = FILES[0], FILES[1]
    options = ["--source=synthetic", f"--root={store_root}", "--severities=[3]", "--threads=1"]
    options += [f"--output={tmp_path}", "--max_latency_ratio=.inf", "--max_size_ratio=.inf"]
    options += ["--accuracy_margin=30", "--robustness_margin=30"]  # ten test images
    assert main(["gate", str(candidate), f"--against={baseline}", *options]) == 0


@pytest.mark.parametrize(
    "name", ["data", "split", "synthetic", "metrics", "git", "export", "examples"]
)
def test_a_card_without_a_field_gets_the_default(name: str, content: dict[str, Any]) -> None:
    del content[name]
    card = ModelCard.from_json(json.dumps(content), "old.onnx")
    assert getattr(card, name) == ({} if name in ("export", "examples") else None)
    assert ModelCard.from_json(card.to_json(), "old.onnx") == card


@pytest.mark.parametrize("name", ["version", "classes", "bands", "patch_size", "checkpoint"])
def test_a_card_without_what_a_model_needs_is_refused(name: str, content: dict[str, Any]) -> None:
    del content[name]
    with pytest.raises(
        ModelFileError, match=f"model card of old.onnx.*missing required field `{name}`"
    ):
        ModelCard.from_json(json.dumps(content), "old.onnx")


def test_fields_of_a_newer_version_are_ignored(content: dict[str, Any]) -> None:
    expected = ModelCard.from_json(json.dumps(content), "new.onnx")
    card = ModelCard.from_json(json.dumps(content | {"scale": [1, 2], "note": "new"}), "new.onnx")
    assert card == expected
    assert "note" not in card.to_json()


def test_a_newer_layout_is_refused_with_what_to_do(content: dict[str, Any]) -> None:
    text = json.dumps(content | {"layout": 2, "classes": {"of": "another kind"}})
    with pytest.raises(ModelFileError) as caught:
        ModelCard.from_json(text, "new.onnx")
    assert str(caught.value) == (
        "new.onnx was made by a newer version of eurosat: its model card has layout 2, and this "
        "version reads layouts up to 1; upgrade eurosat"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": "Forest"}, "Expected `array`, got `str` - at `$.classes`"),
        ({"classes": []}, "length >= 1 - at `$.classes`"),
        ({"classes": ["Forest", "Forest"]}, "a name appears twice in Forest, Forest"),
        ({"classes": ["Forest", ""]}, "length >= 1 - at `$.classes[1]`"),
        ({"classes": [["Forest"], "River"]}, "got `array` - at `$.classes[0]`"),
        ({"bands": None}, "Expected `array`, got `null` - at `$.bands`"),
        ({"bands": ["B02", "B99"]}, "unknown band B99"),
        ({"patch_size": 0}, "Expected `int` >= 1 - at `$.patch_size`"),
        ({"patch_size": "64"}, "got `str` - at `$.patch_size`"),
        ({"patch_size": 64.0}, "got `float` - at `$.patch_size`"),
        ({"patch_size": True}, "got `bool` - at `$.patch_size`"),
        ({"version": None}, "Expected `str`, got `null` - at `$.version`"),
        ({"version": ""}, "length >= 1 - at `$.version`"),
        ({"backbone": 18}, "Expected `str`, got `int` - at `$.backbone`"),
        ({"synthetic": "no"}, "Expected `bool | null`, got `str` - at `$.synthetic`"),
        ({"metrics": [0.9]}, "Expected `object | null`, got `array` - at `$.metrics`"),
        ({"export": None}, "Expected `object`, got `null` - at `$.export`"),
        ({"examples": {"a.png": "?"}}, "the example a.png is not base64"),
        ({"examples": {"a.png": ""}}, "the example a.png is empty"),
        ({"patch_size": 2049}, "Expected `int` <= 2048 - at `$.patch_size`"),
        ({"classes": [str(n) for n in range(10_001)]}, "length <= 10000 - at `$.classes`"),
        ({"version": "v" * 1001}, "length <= 1000 - at `$.version`"),
        ({"examples": {str(n): "AAAA" for n in range(10_001)}}, "length <= 10000"),
        ({"examples": {"a.png": "A" * 2**26 + "AAAA"}}, "larger than 64 MiB"),
        ({"reference": "A" * 2**26 + "AAAA"}, "larger than 64 MiB"),
        ({"examples": ["a.png"]}, "got `array` - at `$.examples`"),
        ({"layout": None}, "the number of its layout"),
        ({"layout": "1"}, "the number of its layout"),
        ({"layout": 0}, "the number of its layout"),
    ],
)
def test_a_field_of_another_type_is_refused(
    change: dict[str, Any], message: str, content: dict[str, Any]
) -> None:
    with pytest.raises(ModelFileError) as caught:
        ModelCard.from_json(json.dumps(content | change), "odd.onnx")
    assert message in str(caught.value)
    assert "odd.onnx" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"layout"', "[" * 100_000])
def test_what_is_no_card_is_refused(text: str) -> None:
    with pytest.raises(ModelFileError, match=r"model card of odd\.onnx cannot be read"):
        ModelCard.from_json(text, "odd.onnx")


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "a\nb", "\u202egnp", "\x9b0m", "\u2028", "\ud800", "\0"]
)
def test_text_of_a_card_is_plain(text: str, content: dict[str, Any]) -> None:
    """A card with odd text opens, because a branch may have any name, and steers no terminal."""
    escaped = text.encode("unicode_escape").decode()
    names = {"version": text, "backbone": text, "classes": [text, "Forest"]}
    metadata = {
        "git": {"branch": text},
        "metrics": {text: [{"of": text}]},
        "examples": {text: "AA=="},
    }
    card = ModelCard.from_json(json.dumps(content | names | metadata), "odd.onnx")
    assert card.to_json().isprintable()
    assert (card.version, card.classes[0], card.backbone) == (escaped,) * 3
    assert card.git == {"branch": escaped}
    assert card.metrics == {escaped: [{"of": escaped}]}
    assert list(card.examples) == [escaped]


def test_text_of_other_scripts_stays(content: dict[str, Any]) -> None:
    classes = ("Wälder", "森林", "جنگل\u200cها", "🌲")
    text = json.dumps(content | {"classes": classes})
    assert ModelCard.from_json(text, "own.onnx").classes == classes


def test_a_card_survives_json(content: dict[str, Any]) -> None:
    card = ModelCard.from_json(json.dumps(content), "same.onnx")
    assert json.loads(card.to_json()) == content
    assert ModelCard.from_json(card.to_json(), "same.onnx") == card


def test_a_card_can_always_be_written_as_json(content: dict[str, Any]) -> None:
    metrics = {"accuracy": float("nan"), "loss": float("inf"), "classes": [0.5, float("-inf")]}
    card = ModelCard.from_json(json.dumps(content | {"metrics": metrics}), "odd.onnx")
    assert card.metrics == {"accuracy": None, "loss": None, "classes": [0.5, None]}
    nested: dict[str, Any] = {}
    for _ in range(450):
        nested = {"a": nested}
    with pytest.raises(ModelFileError, match="nested more than 100 times"):
        ModelCard.from_json(json.dumps(content | {"data": nested}), "odd.onnx")
