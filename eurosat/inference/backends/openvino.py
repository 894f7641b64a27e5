"""OpenVINO files in float32 and in int8, which OpenVINO converts from ONNX and runs."""

import gc
import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eurosat.errors import ModelFileError
from eurosat.inference.backend import Backend, Format, Output, Patches, Probabilities, Write
from eurosat.inference.backends import onnx, register_backend, register_format
from eurosat.inference.card import CARD_KEY, ModelCard
from eurosat.inference.signal_stack import kept_signal_stack
from eurosat.operating_system import available_cores

if TYPE_CHECKING:
    from eurosat.models.predictor import Predictor

_WEIGHTS_KEY = "eurosat_weights"
"""Key of the .bin file's SHA-256 in the metadata of the .xml file."""


@register_backend
class OpenVinoBackend(Backend):
    """An OpenVINO model: a .xml file, and a .bin file in the same folder with the weights."""

    suffix = ".xml"
    companion_suffixes = (".bin",)
    install = "eurosat[serve]"

    def __init__(self, path: Path, *, device: str, threads: int) -> None:
        """Open the file; see `Backend`."""
        import openvino

        if device.startswith("cuda"):
            raise ModelFileError(
                f"{path} cannot run on {device}, because OpenVINO runs on Intel's and AMD's CPUs: "
                "choose --device cpu, or export the checkpoint to onnx"
            )
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            # Pinned threads of several workers would share the same cores, and leave others idle.
            "ENABLE_CPU_PINNING": threads >= available_cores(),
            "PERFORMANCE_HINT": "LATENCY",
            # The parity gate measured float32; OpenVINO's default precision depends on the CPU.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            core = openvino.Core()
            # From memory, OpenVINO opens no other file. The layers refer to the mapped weights.
            self._weights = _map_weights(path)
            weights = openvino.Tensor(self._weights, shared_memory=True)
            model = core.read_model(path.read_text("utf-8"), weights)
            self.card = ModelCard.from_json(_rt_info(model, CARD_KEY), str(path))
            _check_weights(path, self._weights, _rt_info(model, _WEIGHTS_KEY))
            with kept_signal_stack():
                self._compiled = core.compile_model(model, "CPU", settings)
        except (RuntimeError, ValueError) as error:
            raise ModelFileError(
                f"{path} is damaged, not an OpenVINO model, or lacks its .bin file ({error}): copy "
                "both files of the export again"
            ) from error
        self._request = self._compiled.create_infer_request()

    def predict(self, patches: Patches) -> Probabilities:
        """Classify raw patches; see `Model.predict`."""
        return self.run(patches).probabilities

    def run(self, patches: Patches) -> Output:
        """Classify raw patches, and give their features; see `Model.run`."""
        probabilities, *features = self._request.infer([patches], share_inputs=True).values()
        return Output(probabilities, features[0] if features else None)


def _rt_info(model: Any, key: str) -> str | None:
    return str(model.get_rt_info(key).astype(str)) if model.has_rt_info(key) else None


def _map_weights(path: Path) -> npt.NDArray[np.uint8]:
    """Map the .bin file beside an .xml file into memory.

    Raises:
        ModelFileError: The .bin file is missing.
        ValueError: The .bin file is empty.
    """
    try:
        return np.memmap(
            path.with_suffix(".bin"), np.uint8, mode="c"
        )  # OpenVINO takes no read-only array
    except OSError as error:
        raise _other_weights(path) from error


def _check_weights(path: Path, weights: npt.NDArray[np.uint8], expected: str | None) -> None:
    """Check that the .bin file belongs to the .xml file, because OpenVINO accepts other weights.

    Raises:
        ModelFileError: The .bin file is damaged or of another model.
    """
    if hashlib.sha256(weights.data).hexdigest() != expected:
        raise _other_weights(path)


def _other_weights(path: Path) -> ModelFileError:
    return ModelFileError(
        f"{path.with_suffix('.bin')} is missing, damaged, or belongs to another model than {path}: "
        "copy both files of one export"
    )


def _build(predictor: "Predictor", card: ModelCard, calibration: Patches | None) -> Write:
    model = _convert(predictor, card)
    return lambda path, card: _save(model, path, card)


def _build_int8(predictor: "Predictor", card: ModelCard, calibration: Patches | None) -> Write:
    assert calibration is not None
    with kept_signal_stack():
        model = _quantise(_convert(predictor, card), calibration)
        gc.collect()  # NNCF has compiled models, which must be freed before the stack is restored.
    return lambda path, card: _save(model, path, card)


def _convert(predictor: "Predictor", card: ModelCard) -> Any:
    import openvino

    model = onnx.convert(predictor, card)
    converted = openvino.Core().read_model(model.SerializeToString())
    if card.dtype == np.uint16:
        _convert_flat(converted)
    return converted


def _convert_flat(model: Any) -> None:
    """Flatten uint16 patches, convert them to float32, and restore their shape.

    Before an int8 convolution OpenVINO moves the channels of the patches to the end, and OpenVINO
    cannot reorder uint16. Flattened patches have no channels that OpenVINO could reorder.
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


def _save(model: Any, path: Path, card: ModelCard) -> None:
    """Write the .xml and the .bin file; the .xml file holds the SHA-256 of the .bin file."""
    import openvino

    model.set_rt_info(card.to_json(), CARD_KEY)
    model.set_rt_info("", _WEIGHTS_KEY)
    openvino.save_model(model, path, compress_to_fp16=False)
    weights = path.with_suffix(".bin").read_bytes()
    model.set_rt_info(hashlib.sha256(weights).hexdigest(), _WEIGHTS_KEY)
    openvino.save_model(model, path, compress_to_fp16=False)


def _quantise(model: Any, calibration: Patches) -> Any:
    """Quantise with NNCF; activations range from the smallest to the largest calibration value.

    NNCF's default averages the extremes over images, which clips the values of bright images and
    cost 1.5 to 6 points of accuracy on EuroSAT. With full ranges the bias correction of NNCF
    changes nothing, so it is off.
    """
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # nncf.set_log_level would also change the handlers, which may belong to the caller.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf.quantize(
        model,
        nncf.Dataset(list(onnx.calibration_batches(calibration))),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(calibration),
        advanced_parameters=AdvancedQuantizationParameters(
            disable_bias_correction=True,
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        ),
    )


_PACKAGES = ("torch", "onnx", "onnxscript", "onnx_ir", "openvino")
register_format(
    Format("openvino", "float32, for Intel's and AMD's CPUs", OpenVinoBackend, _build, _PACKAGES)
)
register_format(
    Format(
        "openvino-int8",
        "int8 (approximate), for Intel's and AMD's CPUs; the fastest format for batches on CPUs",
        OpenVinoBackend,
        _build_int8,
        (*_PACKAGES, "nncf"),
        exact=False,
    )
)
