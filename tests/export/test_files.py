"""Files that are damaged, foreign, mismatched or malicious are refused, and run nothing."""

import io
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

from eurosat.errors import ModelFileError
from eurosat.export.card import CARD_KEY
from eurosat.export.runtime import open_model
from tests.conftest import Run

MODEL = "models/model.json"
Edit = Callable[[Any], None]


class Bomb:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def tampered(program: Path, to: Path, changes: dict[str, bytes]) -> Path:
    """A copy of a .pt2 file with some members replaced or added."""
    reader = PT2ArchiveReader(str(program))
    members = {name: reader.read_bytes(name) for name in reader.get_file_names()} | changes
    with PT2ArchiveWriter(str(to)) as writer:
        for name, content in members.items():
            if not name.startswith(".data/") and name != "byteorder":  # the writer's own
                writer.write_bytes(name, content)
    return to


def pickled(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What a bomb would make."""
    return tmp_path / "boom"


def test_a_checkpoint_cannot_run_code(own_run: Run, marker: Path) -> None:
    checkpoint = torch.load(own_run.best, weights_only=True)
    torch.save(checkpoint | {"extra": Bomb(marker)}, own_run.best)
    with pytest.raises(ModelFileError, match="not a checkpoint of this project"):
        open_model(own_run.best)
    assert not marker.exists()
    torch.load(own_run.best, weights_only=False)
    assert marker.exists()  # the bomb was live


def test_an_untouched_copy_of_a_program_opens(exported: dict[str, Path], tmp_path: Path) -> None:
    copy = tampered(exported["torch"], tmp_path / "copy.pt2", {})
    assert open_model(copy).card == open_model(exported["torch"]).card


def test_a_program_with_pickled_inputs_is_refused(
    exported: dict[str, Path], tmp_path: Path, marker: Path
) -> None:
    inputs = {"data/sample_inputs/model.pt": pickled(((Bomb(marker),), {}))}
    path = tampered(exported["torch"], tmp_path / "bomb.pt2", inputs)
    with pytest.raises(ModelFileError, match="pickled sample inputs"):
        open_model(path)
    assert not marker.exists()
    torch.export.load(path)
    assert marker.exists()  # the bomb was live


def test_a_program_with_pickled_weights_is_refused(
    exported: dict[str, Path], tmp_path: Path, marker: Path
) -> None:
    config = "data/weights/model_weights_config.json"
    content = json.loads(PT2ArchiveReader(str(exported["torch"])).read_string(config))
    tensor = next(iter(content["config"].values()))
    tensor["use_pickle"] = True
    changes = {
        config: json.dumps(content).encode(),
        f"data/weights/{tensor['path_name']}": pickled(Bomb(marker)),
    }
    path = tampered(exported["torch"], tmp_path / "bomb.pt2", changes)
    with pytest.raises(ModelFileError, match="pickled tensors"):
        open_model(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "member",
    [
        "data/weights/model.pt",  # a state dict, pickled
        "data/constants/model.pt",
        "data/constants/custom_obj_0",  # unpickled as a ScriptObject
        "data/constants/opaque_obj_0",  # unpickled
        "data/aotinductor/model/model.so",  # loaded as a library
        "models/other.json",
        "extra/other",
    ],
)
def test_a_program_with_other_members_is_refused(
    member: str, exported: dict[str, Path], tmp_path: Path
) -> None:
    path = tampered(exported["torch"], tmp_path / "more.pt2", {member: pickle.dumps(None)})
    with pytest.raises(ModelFileError, match=f"it holds {member}"):
        open_model(path)


def call(target: str) -> Edit:
    def edit(content: Any) -> None:
        content["graph_module"]["graph"]["nodes"][0]["target"] = target

    return edit


def name_input(name: str) -> Edit:
    def edit(content: Any) -> None:
        content["graph_module"]["graph"]["inputs"][-1]["as_tensor"]["name"] = name

    return edit


def size(expression: str) -> Edit:
    def edit(content: Any) -> None:
        values = content["graph_module"]["graph"]["tensor_values"]
        values["patches"]["sizes"][0]["as_expr"]["expr_str"] = expression

    return edit


def argument(value: dict[str, Any]) -> Edit:
    def edit(content: Any) -> None:
        content["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = value

    return edit


def guard(content: Any) -> None:
    content["guards_code"] = ["__import__('os').system('true')"]


def call_specification(content: Any) -> None:
    signature = content["graph_module"]["module_call_graph"][0]["signature"]
    signature["in_spec"] = signature["in_spec"].replace("builtins.dict", "os.system")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (call("torch.os.system"), "not an operation on tensors"),
        (call("torch.load"), "not an operation on tensors"),
        (call("_operator.call"), "not an operation on tensors"),
        (call("torch.ops.higher_order.cond"), "not an operation on tensors"),
        (call("torch.ops.aten.relu.__init__"), "not an operation on tensors"),
        (call("torch.ops.aten.from_file.default"), "opens files"),
        (argument({"as_operator": "torch.os.system"}), "a value of kind as_operator"),
        (name_input("x=__import__('os').getcwd()"), "where a name is expected"),
        (size("__import__('os').getcwd()"), "where a name is expected"),
        (size("Symbol.__class__"), "where a name is expected"),
        (guard, "guards"),
        (call_specification, "does not take patches alone"),
    ],
)
def test_a_program_that_could_do_more_than_compute_is_refused(
    edit: Edit, message: str, exported: dict[str, Path], tmp_path: Path
) -> None:
    content = json.loads(PT2ArchiveReader(str(exported["torch"])).read_string(MODEL))
    edit(content)
    changes = {MODEL: json.dumps(content).encode()}
    path = tampered(exported["torch"], tmp_path / "more.pt2", changes)
    with pytest.raises(ModelFileError, match=message):
        open_model(path)


def test_the_older_pickled_format_of_programs_is_refused(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "old.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.8")
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", pickled((Bomb(marker),)))
        archive.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(ModelFileError, match="damaged or not a program"):
        open_model(path)
    assert not marker.exists()


@pytest.mark.parametrize("format", ["onnx", "openvino", "torch"])
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
    with pytest.raises(ModelFileError, match="layout version 99"):
        open_model(tmp_path / "newer.onnx")
    program = torch.export.export(torch.nn.ReLU(), (torch.ones(1),))
    torch.export.save(program, tmp_path / "foreign.pt2")
    with pytest.raises(ModelFileError, match="no model card of this project"):
        open_model(tmp_path / "foreign.pt2")


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


def test_openvino_models_leave_signals_alone(exported: dict[str, Path]) -> None:
    """In a process of its own: where it fails, the process dies of the signal."""
    code = (
        "import gc, os, signal, sys\n"
        "from pathlib import Path\n"
        "from eurosat.export.runtime import open_model\n"
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
