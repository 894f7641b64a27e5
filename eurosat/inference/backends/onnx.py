"""ONNX files in float32 and in int8: PyTorch's exporter makes them, and ONNX Runtime runs them."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from eurosat.errors import ModelFileError
from eurosat.inference.backend import Backend, Format, Output, Patches, Probabilities, Write
from eurosat.inference.backends import register_backend, register_format
from eurosat.inference.card import CARD_KEY, ModelCard

if TYPE_CHECKING:
    from eurosat.models.predictor import Predictor

_CALIBRATION_BATCH = 10


@register_backend
class OnnxBackend(Backend):
    """An ONNX file, which ONNX Runtime runs."""

    suffix = ".onnx"
    install = "eurosat[serve]"

    def __init__(self, path: Path, *, device: str, threads: int) -> None:
        """Open the file; see `Backend`."""
        import onnxruntime

        providers: list[Any] = ["CPUExecutionProvider"]
        kind, _, index = device.partition(":")
        if kind == "cuda":
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise ModelFileError(
                    f"{path} cannot run on {device}, because the installed onnxruntime is for "
                    "CPUs: replace onnxruntime with onnxruntime-gpu, or choose --device cpu"
                )
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(index or 0)}))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait between layers spin for 50 us, which saves a quarter of the latency.
        # Threads that spin longer would use the server's cores between requests.
        options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
        # The file holds all of its weights. Loaded from memory, with a folder that holds nothing, a
        # file cannot have another file read as its external data; nor is it taken for ORT's format.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", os.devnull
        )
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=providers
            )
            # The session keeps the bytes for other providers, which it would need on no machine.
            self._session._model_bytes = b""
        except Exception as error:  # onnxruntime has no public base class for its errors.
            raise ModelFileError(
                f"{path} is damaged, not an ONNX model, or has weights in another file ({error}): "
                "export the file again from its checkpoint"
            ) from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.card = ModelCard.from_json(metadata.get(CARD_KEY), str(path))
        self._input = self._session.get_inputs()[0].name

    def predict(self, patches: Patches) -> Probabilities:
        """Classify raw patches; see `Model.predict`."""
        return self.run(patches).probabilities

    def run(self, patches: Patches) -> Output:
        """Classify raw patches, and give their features; see `Model.run`."""
        probabilities, *features = self._session.run(None, {self._input: patches})
        return Output(probabilities, features[0] if features else None)

    @classmethod
    def cuda_devices(cls) -> int:
        """Number of CUDA devices; 0 if the installed ONNX Runtime is for CPUs only."""
        import onnxruntime
        from litserve.connector import check_cuda_with_nvidia_smi

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            return int(check_cuda_with_nvidia_smi())
        return 0


def convert(predictor: "Predictor", card: ModelCard) -> Any:
    """Convert a checkpoint's model to ONNX.

    Args:
        predictor: The model.
        card: The model's card.

    Returns:
        An `onnx.ModelProto` with the input ``patches``, the output ``probabilities`` and, where
        the predictor has features, the output ``features``.
    """
    import torch

    example = torch.from_numpy(np.zeros((2, *card.shape), card.dtype))
    described = predictor.has_features(example)
    program = torch.onnx.export(
        predictor.describing() if described else predictor,
        (example,),
        input_names=["patches"],
        output_names=["probabilities", "features"] if described else ["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    # The exporter records the source line of every node with the paths of the exporting machine.
    for item in (*model.graph.node, *model.graph.input, *model.graph.output):
        item.ClearField("metadata_props")
    for item in (*model.graph.value_info, *model.graph.initializer):
        item.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    _pool_maxima(model)
    return model


def _pool_maxima(model: Any) -> None:
    """Replace maxima over a whole feature map with max-pooling, which gives the same values.

    OpenVINO has a fast int8 kernel for pooling and none for maxima.
    """
    from onnx import helper, numpy_helper

    constants = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    shapes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.value_info}
    for position, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type != "ReduceMax" or len(node.input) != 2:
            continue
        keeps = [attribute.i for attribute in node.attribute if attribute.name == "keepdims"]
        axes = constants.get(node.input[1])
        sizes = [size.dim_value for size in shapes.get(node.input[0], ())][2:]
        if keeps != [0] or axes is None or axes.tolist() != [2, 3] or len(sizes) != 2:
            continue
        if 0 in sizes:  # The size is known only when the model runs.
            continue
        pooled = f"{node.output[0]}_pooled"
        nodes = [
            helper.make_node("MaxPool", node.input[:1], [pooled], pooled, kernel_shape=sizes),
            helper.make_node("Flatten", [pooled], node.output, f"{pooled}_flat"),
        ]
        del model.graph.node[position]
        for new in reversed(nodes):
            model.graph.node.insert(position, new)


def calibration_batches(patches: Patches) -> Iterator[Patches]:
    """Give calibration patches in batches, and show a progress bar.

    Args:
        patches: Raw patches, shape (N, C, size, size).
    """
    starts = range(0, len(patches), _CALIBRATION_BATCH)
    for start in tqdm(starts, desc="Calibrating", unit="batch", leave=False):
        yield patches[start : start + _CALIBRATION_BATCH]


def _build(predictor: "Predictor", card: ModelCard, calibration: Patches | None) -> Write:
    model = convert(predictor, card)
    return lambda path, card: _save(model, path, card)


def _build_int8(predictor: "Predictor", card: ModelCard, calibration: Patches | None) -> Write:
    assert calibration is not None
    model = _quantise(convert(predictor, card), calibration)
    return lambda path, card: _save(model, path, card)


def _save(model: Any, path: Path, card: ModelCard) -> None:
    import onnx

    onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
    path.write_bytes(model.SerializeToString())


def _quantise(model: Any, calibration: Patches) -> Any:
    """Quantise to QDQ with uint8 activations and int8 weights, which x86 multiplies fastest.

    The last layer and its softmax stay in float32, because they take almost no time, and because
    probabilities in steps of 1/255 would not sum to 1. The range of an activation runs from the
    smallest to the largest calibration value. Clipping by percentile or by entropy gave no higher
    accuracy and took longer.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            self._batches = ({"patches": batch} for batch in calibration_batches(calibration))

        def get_next(self) -> dict[str, Patches] | None:
            return next(self._batches, None)

    with tempfile.TemporaryDirectory(prefix="eurosat-export-") as folder:
        original, prepared, quantised = (Path(folder, f"{step}.onnx") for step in range(3))
        onnx.save(model, original)
        # Only transformers on GPUs need symbolic shapes, and inferring the shapes fails here.
        quant_pre_process(original, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Seven bits for a weight: without VNNI instructions, ONNX Runtime adds two products of
            # eight bits in 16 bits, where the sum can overflow.
            reduce_range=True,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_last_layers(onnx.load(prepared)),
        )
        return onnx.load(quantised)


def _last_layers(model: Any) -> list[str]:
    """Find the names of the softmax that gives the output, and of the layer before the softmax."""
    makers = {output: node for node in model.graph.node for output in node.output}
    softmax = makers[model.graph.output[0].name]
    return [softmax.name, makers[softmax.input[0]].name]


_PACKAGES = ("torch", "onnx", "onnxscript", "onnx_ir", "onnxruntime")
register_format(
    Format("onnx", "float32, for ONNX Runtime on CPUs and GPUs", OnnxBackend, _build, _PACKAGES)
)
register_format(
    Format(
        "onnx-int8",
        "int8 (approximate), for ONNX Runtime; 2.5 to 3.2 times as fast as onnx on a CPU with VNNI,"
        " the int8 instructions of x86",
        OnnxBackend,
        _build_int8,
        _PACKAGES,
        exact=False,
    )
)
