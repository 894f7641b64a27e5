"""Opening a model file: raw pixels in, probabilities out, whatever the file's format."""

import os
from pathlib import Path

from eurosat.errors import ModelFileError
from eurosat.inference.backend import Model
from eurosat.inference.backends import find_backend


def open_model(path: Path, *, device: str = "cpu", threads: int | None = None) -> Model:
    """Open a model file.

    Nothing here needs torch unless the file does, and no file can run code of its own:
    checkpoints are loaded as weights only.

    Args:
        path: A checkpoint, or a file made by ``eurosat export``.
        device: ``"cpu"``, or ``"cuda"`` with or without a number.
        threads: Threads that one call may use; as many as the machine has cores if not given.

    Raises:
        ModelFileError: The file is missing, damaged, not of this project, or its backend is not
            installed or cannot use the device.
    """
    backend = find_backend(path)
    if not path.is_file():
        raise ModelFileError(f"there is no model file {path}")
    try:
        return backend(path, device=device, threads=threads or os.cpu_count() or 1)
    except ImportError as error:
        raise ModelFileError(
            f"{path} needs {error.name}, which is not installed: pip install '{backend.install}'"
        ) from error
