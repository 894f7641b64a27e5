"""Making a format's model out of a checkpoint: one function a format, each giving a writer."""

import contextlib
import gc
import hashlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from eurosat.export.formats import Format
from eurosat.inference.card import CARD_KEY, ModelCard
from eurosat.inference.files import companions
from eurosat.inference.runtime import WEIGHTS_KEY, Patches
from eurosat.inference.signal_stack import kept_signal_stack
from eurosat.models.predictor import Predictor

Write = Callable[[Path, ModelCard], None]
"""Writes the model with a card in its metadata; may be called again with another card."""

_CALIBRATION_BATCH = 10


def build(
    format: Format, predictor: Predictor, card: ModelCard, calibration: Patches | None
) -> Write:
    """Make a format's model.

    Args:
        format: The format.
        predictor: The checkpoint's model.
        card: The checkpoint's card.
        calibration: Training patches that show an int8 format the ranges of activations.

    Returns:
        What writes the model's file.
    """
    example = torch.from_numpy(np.zeros((2, *card.shape), card.dtype))
    with _quietly():
        model = _onnx(predictor, example)
        match format:
            case "onnx":
                return lambda path, card: _save_onnx(model, path, card)
            case "openvino":
                converted = _openvino(model)
                return lambda path, card: _save_openvino(converted, path, card)
        assert calibration is not None
        if format == "onnx-int8":
            quantised = _quantise_onnx(model, calibration)
            return lambda path, card: _save_onnx(quantised, path, card)
        with kept_signal_stack():
            compressed = _quantise_openvino(_openvino(model), calibration)
            gc.collect()  # the models that NNCF has compiled on the way
        return lambda path, card: _save_openvino(compressed, path, card)


def _onnx(predictor: Predictor, example: torch.Tensor) -> Any:
    program = torch.onnx.export(
        predictor,
        (example,),
        input_names=["patches"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    # The exporter notes the source line of every node, with the folders of this machine.
    for item in (*model.graph.node, *model.graph.input, *model.graph.output):
        item.ClearField("metadata_props")
    for item in (*model.graph.value_info, *model.graph.initializer):
        item.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    _pool_maxima(model)
    return model


def _pool_maxima(model: Any) -> None:
    """Turn maxima over a whole feature map into max-pooling, the same for less.

    OpenVINO has a fast int8 kernel for pooling only.
    """
    from onnx import helper, numpy_helper

    constants = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    shapes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.value_info}
    for place, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type != "ReduceMax" or len(node.input) != 2:
            continue
        keeps = [attribute.i for attribute in node.attribute if attribute.name == "keepdims"]
        axes = constants.get(node.input[1])
        sizes = [size.dim_value for size in shapes.get(node.input[0], ())][2:]
        if keeps != [0] or axes is None or axes.tolist() != [2, 3] or len(sizes) != 2:
            continue
        if 0 in sizes:  # not known before it runs
            continue
        pooled = f"{node.output[0]}_pooled"
        nodes = [
            helper.make_node("MaxPool", node.input[:1], [pooled], pooled, kernel_shape=sizes),
            helper.make_node("Flatten", [pooled], node.output, f"{pooled}_flat"),
        ]
        del model.graph.node[place]
        for new in reversed(nodes):
            model.graph.node.insert(place, new)


def _save_onnx(model: Any, path: Path, card: ModelCard) -> None:
    import onnx

    onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
    path.write_bytes(model.SerializeToString())


def _quantise_onnx(model: Any, calibration: Patches) -> Any:
    """QDQ with uint8 activations and int8 weights, the pair that x86 multiplies fastest.

    The last layer and its softmax stay in float32: they cost nothing, and probabilities in steps
    of 1/255 would not sum to 1. Ranges are the smallest and largest values seen: clipping by
    percentile or entropy found no higher accuracy, and takes longer.
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
            self._batches = ({"patches": batch} for batch in _batches(calibration))

        def get_next(self) -> dict[str, Patches] | None:
            return next(self._batches, None)

    with tempfile.TemporaryDirectory(prefix="eurosat-export-") as folder:
        original, prepared, quantised = (Path(folder, f"{step}.onnx") for step in range(3))
        onnx.save(model, original)
        # Symbolic shapes are only needed by quantisers of transformers on GPUs, and fail here.
        quant_pre_process(original, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_last_layers(onnx.load(prepared)),
        )
        return onnx.load(quantised)


def _last_layers(model: Any) -> list[str]:
    """Names of the softmax that gives the output, and of the layer before it."""
    makers = {output: node for node in model.graph.node for output in node.output}
    softmax = makers[model.graph.output[0].name]
    return [softmax.name, makers[softmax.input[0]].name]


def _openvino(model: Any) -> Any:
    import onnx
    import openvino

    converted = openvino.Core().read_model(model.SerializeToString())
    if model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT16:
        _convert_flat(converted)
    return converted


def _convert_flat(model: Any) -> None:
    """Convert uint16 patches to float32 as rows of pixels, and give them their shape again.

    OpenVINO wants channels last before an int8 convolution and may reorder the raw patches for
    that, which it cannot do with uint16; rows have no channels to reorder.
    """
    from openvino import opset13

    patches = model.input().get_node()
    (conversion,) = (user.get_node() for user in model.input().get_target_inputs())
    channels, height, width = (size.get_length() for size in list(model.input().partial_shape)[1:])
    flat = opset13.reshape(patches, np.array([0, -1]), special_zero=True)
    pixels = opset13.convert(flat, "f32")
    shaped = opset13.reshape(pixels, np.array([0, channels, height, width]), special_zero=True)
    for user in conversion.output(0).get_target_inputs():
        user.replace_source_output(shaped.output(0))
    model.validate_nodes_and_infer_types()


def _save_openvino(model: Any, path: Path, card: ModelCard) -> None:
    """Write .xml and .bin; the .xml says which .bin is its own."""
    import openvino

    model.set_rt_info(card.to_json(), CARD_KEY)
    model.set_rt_info("", WEIGHTS_KEY)
    openvino.save_model(model, path, compress_to_fp16=False)
    (weights,) = companions(path)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    model.set_rt_info(digest, WEIGHTS_KEY)
    openvino.save_model(model, path, compress_to_fp16=False)


def _quantise_openvino(model: Any, calibration: Patches) -> Any:
    """NNCF, with the ranges of activations from the smallest to the largest value seen.

    NNCF's own choice averages the extremes over images, which clips the bright ones: it cost
    1.5 to 6 points of accuracy on EuroSAT. With full ranges its bias correction has nothing left
    to correct.
    """
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(
        model,
        nncf.Dataset(list(_batches(calibration))),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(calibration),
        advanced_parameters=AdvancedQuantizationParameters(
            disable_bias_correction=True,
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        ),
    )


def _batches(patches: Patches) -> Iterator[Patches]:
    starts = range(0, len(patches), _CALIBRATION_BATCH)
    for start in tqdm(starts, desc="Calibrating", unit="batch", leave=False):
        yield patches[start : start + _CALIBRATION_BATCH]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporters' own messages, none of which a user can act on."""
    loggers = [logging.getLogger(name) for name in ("torch", "nncf", "onnxscript", "onnx_ir", "")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
