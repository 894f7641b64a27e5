"""Opening a model file of any format; the model turns raw pixels into probabilities."""

from pathlib import Path

from eurosat.errors import ModelFileError
from eurosat.inference.backend import Model
from eurosat.inference.backends import find_backend
from eurosat.operating_system import available_cores


def open_model(path: Path, *, device: str = "cpu", threads: int | None = None) -> Model:
    """Open a model file.

    Only checkpoints need torch. A file cannot run code; checkpoints are loaded as weights only.

    Args:
        path: A checkpoint, or a file that ``eurosat export`` wrote.
        device: ``"cpu"``, or ``"cuda"`` with or without a number.
        threads: Number of threads that one call may use; if not given, the number of cores.

    Raises:
        ModelFileError: The file is missing, damaged or not of this project, or the file's backend
            is not installed or cannot use the device.
    """
    backend = find_backend(path)
    if not path.is_file():
        raise ModelFileError(
            f"there is no model file {path}: give a checkpoint, or a file that 'eurosat export' "
            "wrote"
        )
    try:
        return backend(path, device=device, threads=threads or available_cores())
    except ImportError as error:
        raise ModelFileError(
            f"{path} needs {error.name}, which is not installed: pip install '{backend.install}'"
        ) from error
