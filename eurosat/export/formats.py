"""The formats of exported models, and what each needs."""

import importlib
from typing import Literal, get_args

from eurosat.errors import ExportError

Format = Literal["onnx", "openvino", "onnx-int8", "openvino-int8"]
FORMATS: tuple[Format, ...] = get_args(Format)

ENDINGS: dict[Format, str] = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "onnx-int8": ".onnx",
    "openvino-int8": ".xml",
}
"""The ending of each format's file; an OpenVINO file has its weights in a .bin beside it."""

PACKAGES: dict[Format, tuple[str, ...]] = {
    "onnx": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "openvino": ("torch", "onnx", "onnxscript", "openvino"),
    "onnx-int8": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "openvino-int8": ("torch", "onnx", "onnxscript", "openvino", "nncf"),
}
"""The packages that make a format's file; their versions go into its card."""


def is_int8(format: Format) -> bool:
    """Whether a format computes with 8-bit integers, and so only approximates the checkpoint."""
    return format.endswith("-int8")


def check_packages(format: Format) -> None:
    """Make sure that what a format needs is installed.

    Raises:
        ExportError: A package is missing.
    """
    for name in PACKAGES[format]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ExportError(
                f"--format {format} needs {error.name or name}, which is not installed: "
                "pip install 'eurosat[export]'"
            ) from error
