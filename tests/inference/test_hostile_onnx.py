"""An ONNX file holds its own weights, and computes what its card describes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from eurosat.cli import main
from eurosat.errors import ModelFileError
from eurosat.inference import open_model
from tests.inference.conftest import LAYOUT_1

FILE = LAYOUT_1 / "best-epoch00-onnx.onnx"

Hide = Callable[[Any, TensorProto], None]


def external(model: Any, location: str, name: str) -> TensorProto:
    """The bias of the last layer, as a tensor whose values are in another file."""
    (bias,) = (value for value in model.graph.initializer if value.name == name)
    tensor = TensorProto(name=name, data_type=bias.data_type, dims=bias.dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", "0"), ("length", "40")):
        tensor.external_data.add(key=key, value=text)
    model.graph.initializer.remove(bias)
    return tensor


def initializer(model: Any, tensor: TensorProto) -> None:
    model.graph.initializer.append(tensor)


def constant(model: Any, tensor: TensorProto) -> None:
    model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))


def branch(model: Any, tensor: TensorProto) -> None:
    name = f"{tensor.name}_inside"
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, list(tensor.dims))
    inside = helper.make_node("Constant", [], [name], value=tensor)
    graph = helper.make_graph([inside], "branch", [], [output])
    choose(model, tensor.name, graph)


def branch_initializer(model: Any, tensor: TensorProto) -> None:
    inside = TensorProto()
    inside.CopyFrom(tensor)
    inside.name = f"{tensor.name}_inside"
    output = helper.make_tensor_value_info("copied", TensorProto.FLOAT, list(tensor.dims))
    copy = helper.make_node("Identity", [inside.name], ["copied"])
    graph = helper.make_graph([copy], "branch", [], [output], [inside])
    choose(model, tensor.name, graph)


def choose(model: Any, name: str, graph: Any) -> None:
    """Take a value from a subgraph, which is both branches of an ``If``."""
    node = helper.make_node("If", ["always"], [name], then_branch=graph, else_branch=graph)
    model.graph.initializer.append(helper.make_tensor("always", TensorProto.BOOL, [], [True]))
    model.graph.node.insert(0, node)


def sparse(model: Any, tensor: TensorProto) -> None:
    indices = numpy_helper.from_array(np.arange(10), "indices")
    model.graph.sparse_initializer.add(values=tensor, indices=indices, dims=tensor.dims)


def function(model: Any, tensor: TensorProto) -> None:
    inside = helper.make_node("Constant", [], ["value"], value=tensor)
    model.functions.append(
        helper.make_function("own", "Value", [], ["value"], [inside], model.opset_import)
    )
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.insert(0, helper.make_node("Value", [], [tensor.name], domain="own"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights in other files; the process is in the folder, too."""
    inside = tmp_path / "model"
    inside.mkdir()
    for path in (inside / "other.bin", tmp_path / "above.bin"):
        path.write_bytes(np.arange(10, dtype=np.float32).tobytes())
    (inside / "link.bin").symlink_to(tmp_path / "above.bin")
    monkeypatch.chdir(inside)
    return inside


@pytest.mark.parametrize(
    "hide",
    [initializer, constant, branch, branch_initializer, sparse, function],
    ids=lambda function: function.__name__,
)
@pytest.mark.parametrize(
    "location", ["other.bin", "../above.bin", "{absolute}", "link.bin", "*/_ORT_MEM_ADDR_/*"]
)
def test_weights_in_another_file_are_refused(hide: Hide, location: str, folder: Path) -> None:
    model = onnx.load(FILE)
    bias = model.graph.node[-2].input[2]
    hide(model, external(model, location.format(absolute=folder / "other.bin"), bias))
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    if location == "other.bin" and hide in (initializer, constant, function):
        onnxruntime.InferenceSession(path)  # so the attack is live
    with pytest.raises(ModelFileError, match="has weights in another file"):
        open_model(path, threads=1)


def write(model: Any, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("domain", ["com.example", "ai.onnx.contrib"])
def test_an_operation_of_another_library_is_refused(domain: str, tmp_path: Path) -> None:
    model = onnx.load(FILE)
    model.graph.node[0].domain = domain
    model.opset_import.append(helper.make_opsetid(domain, 1))
    with pytest.raises(ModelFileError, match="damaged, not an ONNX model"):
        open_model(write(model, tmp_path), threads=1)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("kind", ["opset", "initializer", "constant", "expanded"])
def test_what_cannot_be_held_is_refused(kind: str, tmp_path: Path) -> None:
    model = onnx.load(FILE)
    first, last = model.graph.node[0], model.graph.node[-1]
    match kind:
        case "opset":
            model.opset_import[0].version = 999
        case "initializer":
            model.graph.initializer[0].dims[:] = [2**40]
        case "constant" | "expanded":
            shape = numpy_helper.from_array(np.array([2**21, 2**21]), "shape")
            one = numpy_helper.from_array(np.float32([1]), "one")
            model.graph.initializer.extend([shape, one])
            make = (
                helper.make_node("ConstantOfShape", ["shape"], ["large"])
                if kind == "constant"
                else helper.make_node("Expand", ["one", "shape"], ["large"])
            )
            total = helper.make_node("ReduceSum", ["large"], ["total"], keepdims=0)
            last.output[0] = "plain"
            add = helper.make_node("Add", ["plain", "total"], ["probabilities"])
            model.graph.node.extend([make, total, add])
    assert first.op_type == "Cast"
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        open_model(write(model, tmp_path), threads=1)


def test_a_file_of_onnx_runtimes_own_format_is_refused(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    onnxruntime.InferenceSession(FILE, options)
    path = (tmp_path / "model.ort").rename(tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match="not an ONNX model"):
        open_model(path, threads=1)


def appended(model: Any, *nodes: Any, **values: Any) -> None:
    """Compute the output from the probabilities of before, which are called ``plain``."""
    model.graph.node[-1].output[0] = "plain"
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()
    )
    model.graph.node.extend(nodes)


def fewer_outputs(model: Any) -> None:
    slices = helper.make_node("Slice", ["plain", "start", "end", "axis"], ["probabilities"])
    appended(model, slices, start=np.array([0]), end=np.array([7]), axis=np.array([1]))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7


def one_row(model: Any) -> None:
    slices = helper.make_node("Slice", ["plain", "start", "end", "axis"], ["probabilities"])
    appended(model, slices, start=np.array([0]), end=np.array([1]), axis=np.array([0]))


def doubled(model: Any) -> None:
    twice = helper.make_node("Add", ["plain", "plain"], ["probabilities"])
    appended(model, twice)


def not_finite(model: Any) -> None:
    scaled = helper.make_node("Mul", ["plain", "nan"], ["probabilities"])
    appended(model, scaled, nan=np.float32(np.nan))


def not_finite_for(model: Any, low: float, high: float) -> None:
    """Give NaN for patches whose mean value is between two values."""
    appended(
        model,
        helper.make_node(
            "Cast", [model.graph.input[0].name], ["hostile_numbers"], to=TensorProto.FLOAT
        ),
        helper.make_node("ReduceMean", ["hostile_numbers", "axes"], ["patch_mean"], keepdims=0),
        helper.make_node("Greater", ["patch_mean", "low"], ["above"]),
        helper.make_node("Less", ["patch_mean", "high"], ["below"]),
        helper.make_node("And", ["above", "below"], ["chosen"]),
        helper.make_node("Unsqueeze", ["chosen", "axis"], ["rows"]),
        helper.make_node("Where", ["rows", "nan", "plain"], ["probabilities"]),
        axes=np.array([1, 2, 3]),
        axis=np.array([1]),
        low=np.float32(low),
        high=np.float32(high),
        nan=np.float32(np.nan),
    )


def not_finite_for_an_image(model: Any) -> None:
    not_finite_for(model, 1, 255)


def negative(model: Any) -> None:
    shifted = helper.make_node("Add", ["plain", "shift"], ["probabilities"])
    appended(model, shifted, shift=np.float32([2, -2, *[0] * 8]))


def other_type(model: Any) -> None:
    cast = helper.make_node("Cast", ["plain"], ["probabilities"], to=TensorProto.DOUBLE)
    appended(model, cast)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def other_features(model: Any) -> None:
    same = helper.make_node("Identity", ["plain"], ["probabilities"])
    maps = helper.make_node("Flatten", ["plain"], ["features"], axis=0)
    appended(model, same, maps)
    model.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, None))


def second_input(model: Any) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    appended(model, helper.make_node("Add", ["plain", "more"], ["probabilities"]))


def other_input(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT16


def other_size(model: Any) -> None:
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_value = 32


def one_patch(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


@pytest.mark.parametrize(
    "change",
    [
        *(
            fewer_outputs,
            one_row,
            doubled,
            not_finite,
            not_finite_for_an_image,
            negative,
            other_type,
            other_features,
        ),
        *(second_input, other_input, other_size, one_patch),
    ],
    ids=lambda function: function.__name__,
)
def test_a_model_that_differs_from_its_card_is_refused(
    change: Callable[[Any], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(FILE)
    change(model)
    del model.graph.value_info[:]
    assert main(["serve", str(write(model, tmp_path))]) == 2
    message = capsys.readouterr().err
    # ONNX Runtime itself refuses shapes that contradict each other.
    assert "its card describes" in message or change is other_size
    assert str(tmp_path / "model.onnx") in message
