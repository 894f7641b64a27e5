"""An OpenVINO file reads its own weights and no other file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eurosat.errors import ModelFileError
from eurosat.inference import open_model
from tests.inference.conftest import LAYOUT_1

FILE = LAYOUT_1 / "best-epoch00-openvino.xml"

FIRST = 'element_type="f32" shape="1, 3, 1, 1" offset="0" size="12"'
ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))

CHANGES: dict[str, Callable[[str], str]] = {
    "behind the end": lambda text: text.replace(FIRST, FIRST.replace('"0"', '"99999999"')),
    "before the start": lambda text: text.replace(FIRST, FIRST.replace('"0"', '"-12"')),
    "too far": lambda text: text.replace(FIRST, FIRST.replace('"0"', f'"{2**64 - 8}"')),
    "too long": lambda text: text.replace(FIRST, FIRST.replace('"12"', f'"{2**40}"')),
    "too short": lambda text: text.replace(FIRST, FIRST.replace('"12"', '"4"')),
    "too large": lambda text: text.replace(FIRST, FIRST.replace("1, 3, 1, 1", f"{2**40}")),
    "no number": lambda text: text.replace(FIRST, FIRST.replace('"0"', '"x"')),
    "extension": lambda text: text.replace('type="Relu"', 'type="Evil"').replace(
        'type="ReLU"', 'type="Evil"'
    ),
    "library": lambda text: text.replace('version="opset1"', 'version="/tmp/evil.so"'),
    "other size": lambda text: text.replace("?,3,64,64", "?,3,32,32"),
    "version": lambda text: text.replace('version="11"', 'version="99"', 1),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the file and its weights."""
    shutil.copy(FILE.with_suffix(".bin"), tmp_path / "model.bin")
    return Path(shutil.copy(FILE, tmp_path / "model.xml"))


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_reaches_beyond_itself_is_refused(name: str, model: Path) -> None:
    text = model.read_text("utf-8")
    changed = CHANGES[name](text)
    assert changed != text
    model.write_text(changed, "utf-8")
    with pytest.raises(ModelFileError, match=r"model\.xml"):
        open_model(model, threads=1)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("entity", ["laughs", "file"])
def test_entities_are_not_expanded(entity: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    definition, name = {
        "laughs": (f'<!ENTITY e0 "ha">{ENTITIES}', "&e11;"),
        "file": (f'<!ENTITY e SYSTEM "file://{tmp_path}/secret">', "&e;"),
    }[entity]
    head, _, body = model.read_text("utf-8").partition("?>")
    body = body.replace('name="', f'name="{name}', 1)
    model.write_text(f"{head}?><!DOCTYPE net [{definition}]>{body}", "utf-8")
    assert "secret" not in card_or_error(model)


def card_or_error(model: Path) -> str:
    """What a caller sees of a file: its card, or why it cannot be opened."""
    try:
        return open_model(model, threads=1).card.to_json()
    except ModelFileError as error:
        return str(error)


def test_a_file_of_another_format_is_refused(model: Path) -> None:
    """OpenVINO also reads ONNX files, whatever their name, with weights in other files."""
    model.write_bytes((LAYOUT_1 / "best-epoch00-onnx.onnx").read_bytes())
    with pytest.raises(ModelFileError, match=r"not an OpenVINO model"):
        open_model(model, threads=1)
