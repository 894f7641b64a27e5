"""Running a model file: one class a backend, chosen by the file's ending.

Raw pixels in, probabilities out, whatever the backend. Nothing here needs torch unless the file
does, and no file can run code of its own: checkpoints are loaded as weights only.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from eurosat.errors import ModelFileError
from eurosat.inference.card import CARD_KEY, ModelCard
from eurosat.inference.files import companions
from eurosat.inference.signal_stack import kept_signal_stack

Probabilities = npt.NDArray[np.float32]
Patches = npt.NDArray[Any]
"""Raw pixels, uint8 or uint16, shape (B, C, size, size)."""

MODEL_SUFFIXES = (".ckpt", ".onnx", ".xml")
"""Endings of model files."""

WEIGHTS_KEY = "eurosat_weights"
"""Key of the SHA-256 of an OpenVINO file's .bin, in the .xml's metadata."""


class Model(Protocol):
    """A model that is ready to answer."""

    @property
    def card(self) -> ModelCard:
        """What the model is."""

    def predict(self, patches: Patches) -> Probabilities:
        """Classify raw patches.

        Args:
            patches: Raw pixel values of the card's bands, of the card's type, shape
                (B, C, size, size); B may differ from call to call.

        Returns:
            Probabilities, float32, shape (B, classes), rows summing to 1.
        """


def open_model(path: Path, *, device: str = "cpu", threads: int | None = None) -> Model:
    """Open a model file.

    Args:
        path: A checkpoint (.ckpt), or a file made by ``eurosat export`` (.onnx, .xml).
        device: ``"cpu"``, or ``"cuda"`` with or without a number.
        threads: Threads that one call may use; as many as the machine has cores if not given.

    Raises:
        ModelFileError: The file is missing, damaged, not of this project, or its backend is not
            installed or cannot use the device.
    """
    backends: dict[str, Callable[[Path, str, int], Model]] = {
        ".ckpt": TorchModel,
        ".onnx": OnnxModel,
        ".xml": OpenVinoModel,
    }
    if path.suffix not in backends:
        raise ModelFileError(
            f"{path} is no model file: expected an ending of {', '.join(backends)}"
        )
    if not path.is_file():
        raise ModelFileError(f"there is no model file {path}")
    try:
        return backends[path.suffix](path, device, threads or os.cpu_count() or 1)
    except ImportError as error:
        raise ModelFileError(
            f"{path} needs {error.name}, which is not installed: "
            "pip install 'eurosat[train]' for .ckpt, 'eurosat[serve]' for .onnx and .xml"
        ) from error


class OnnxModel:
    """An ONNX file under ONNX Runtime."""

    def __init__(self, path: Path, device: str, threads: int) -> None:
        """Open the file; the arguments are those of `open_model`."""
        import onnxruntime

        providers: list[Any] = ["CPUExecutionProvider"]
        kind, _, index = device.partition(":")
        if kind == "cuda":
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise ModelFileError(
                    f"{path} cannot run on {device}: the installed onnxruntime is for CPUs; "
                    "pip install onnxruntime-gpu in its place, or choose --device cpu"
                )
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(index or 0)}))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait between layers may spin for a moment, which saves a quarter of the
        # latency; for longer they would take the cores from the server between requests.
        options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # onnxruntime has no public base class for its errors
            raise ModelFileError(f"{path} is damaged or not an ONNX model ({error})") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.card = ModelCard.from_json(metadata.get(CARD_KEY), str(path))
        self._input = self._session.get_inputs()[0].name

    def predict(self, patches: Patches) -> Probabilities:
        """Classify; see `Model.predict`."""
        probabilities: Probabilities = self._session.run(None, {self._input: patches})[0]
        return probabilities


class OpenVinoModel:
    """An OpenVINO file (.xml with its .bin beside it)."""

    def __init__(self, path: Path, device: str, threads: int) -> None:
        """Open the file; the arguments are those of `open_model`."""
        import openvino

        if device.startswith("cuda"):
            raise ModelFileError(
                f"{path} cannot run on {device}: OpenVINO runs on Intel's and AMD's CPUs; "
                "choose --device cpu, or export to onnx"
            )
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # as the gate measured it, on any machine
        }
        try:
            core = openvino.Core()
            model = core.read_model(path)
            self.card = ModelCard.from_json(_rt_info(model, CARD_KEY), str(path))
            _check_weights(path, _rt_info(model, WEIGHTS_KEY))
            with kept_signal_stack():
                self._compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise ModelFileError(
                f"{path} is damaged, not an OpenVINO model, or lacks its .bin file ({error})"
            ) from error
        self._request = self._compiled.create_infer_request()

    def predict(self, patches: Patches) -> Probabilities:
        """Classify; see `Model.predict`."""
        result = self._request.infer([patches], share_inputs=True)
        probabilities: Probabilities = result[0]
        return probabilities


def _rt_info(model: Any, key: str) -> str | None:
    return str(model.get_rt_info(key).astype(str)) if model.has_rt_info(key) else None


def _check_weights(path: Path, expected: str | None) -> None:
    """Two files may get separated: the .bin of another model would fit many an .xml."""
    (weights,) = companions(path)
    if not weights.is_file() or hashlib.sha256(weights.read_bytes()).hexdigest() != expected:
        raise ModelFileError(
            f"{weights} is missing, damaged, or belongs to another model than {path}: "
            "copy both files of one export"
        )


class TorchModel:
    """A checkpoint under PyTorch."""

    def __init__(self, path: Path, device: str, threads: int) -> None:
        """Open the file; the arguments are those of `open_model`."""
        import torch

        from eurosat.inference.checkpoint import open_checkpoint

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelFileError(f"{path} cannot run on {device}: PyTorch finds no CUDA device")
        torch.set_num_threads(threads)
        self._torch = torch
        self._device = torch.device(device)
        predictor, self.card = open_checkpoint(path)
        self._module = predictor.to(self._device)

    def predict(self, patches: Patches) -> Probabilities:
        """Classify; see `Model.predict`."""
        with self._torch.inference_mode():
            batch = self._torch.from_numpy(np.ascontiguousarray(patches)).to(self._device)
            probabilities: Probabilities = self._module(batch).float().cpu().numpy()
        return probabilities
