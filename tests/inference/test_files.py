"""Files that are damaged, foreign, mismatched or malicious are refused, and run nothing."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from eurosat.errors import ModelFileError
from eurosat.inference.card import CARD_KEY
from eurosat.inference.runtime import open_model
from tests.inference.conftest import LAYOUT_1


class Bomb:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What a bomb would make."""
    return tmp_path / "boom"


def test_a_checkpoint_cannot_run_code(marker: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(LAYOUT_1 / "best-epoch00.ckpt", weights_only=True)
    file = tmp_path / "bomb.ckpt"
    torch.save(checkpoint | {"extra": Bomb(marker)}, file)
    with pytest.raises(ModelFileError, match="not a checkpoint of this project"):
        open_model(file)
    assert not marker.exists()
    torch.load(file, weights_only=False)
    assert marker.exists()  # the bomb was live


@pytest.mark.parametrize("format", ["onnx", "openvino"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_damaged_files_are_named(
    format: str, damage: str, exported: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(exported[format], tmp_path))
    if format == "openvino":
        shutil.copy(exported[format].with_suffix(".bin"), tmp_path)
    content = path.read_bytes()
    damaged = {"cut": content[: len(content) // 2], "empty": b"", "noise": b"no model" * 999}
    path.write_bytes(damaged[damage])
    with pytest.raises(ModelFileError, match=path.name):
        open_model(path)


def test_files_without_a_card_are_foreign(exported: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(exported["onnx"])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ModelFileError, match="no model card of this project"):
        open_model(tmp_path / "foreign.onnx")
    onnx.helper.set_model_props(model, {CARD_KEY: '{"layout": 99}'})
    onnx.save(model, tmp_path / "newer.onnx")
    with pytest.raises(ModelFileError, match=r"layout 99.*upgrade eurosat"):
        open_model(tmp_path / "newer.onnx")


def test_an_openvino_file_knows_its_weights(exported: dict[str, Path], tmp_path: Path) -> None:
    path = Path(shutil.copy(exported["openvino"], tmp_path / "model.xml"))
    with pytest.raises(ModelFileError, match=r"\.bin"):
        open_model(path)
    weights = bytearray(exported["openvino"].with_suffix(".bin").read_bytes())
    weights[1000] ^= 1  # of the right size, as the .bin of another training would be
    path.with_suffix(".bin").write_bytes(weights)
    with pytest.raises(ModelFileError, match="copy both files of one export"):
        open_model(path)
    path.with_suffix(".bin").write_bytes(exported["openvino-int8"].with_suffix(".bin").read_bytes())
    with pytest.raises(ModelFileError, match=r"\.bin"):
        open_model(path)


@pytest.mark.process
def test_openvino_models_leave_signals_alone(exported: dict[str, Path]) -> None:
    """In a process of its own: where it fails, the process dies of the signal."""
    code = (
        "import gc, os, signal, sys\n"
        "from pathlib import Path\n"
        "from eurosat.inference.runtime import open_model\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'))\n"
        "first, second = open_model(Path(sys.argv[1])), open_model(Path(sys.argv[1]))\n"
        "for name in ('first', 'second'):\n"
        "    del globals()[name]\n"
        "    gc.collect()\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
    )
    command = [sys.executable, "-c", code, str(exported["openvino"])]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "handled\n")


def test_openvino_pins_no_thread_where_other_workers_compute(
    exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eurosat.inference.backends.openvino.available_cores", lambda: 4)
    model: Any = open_model(exported["openvino"], threads=2)
    assert not model._compiled.get_property("ENABLE_CPU_PINNING")
