"""Opening a model file of any format; the model turns raw pixels into probabilities."""

from pathlib import Path

import numpy as np

from eurosat.errors import ModelFileError
from eurosat.inference.backend import Model, Output
from eurosat.inference.backends import find_backend
from eurosat.inference.card import ModelCard
from eurosat.operating_system import available_cores


def open_model(path: Path, *, device: str = "cpu", threads: int | None = None) -> Model:
    """Open a model file.

    Only checkpoints need torch. A file is data: it runs no code, and opening it reads no other file
    than its companions and fetches nothing. The model classifies two patches before it counts as
    open, because its card may describe another model.

    Args:
        path: A checkpoint, or a file that ``eurosat export`` wrote.
        device: ``"cpu"``, or ``"cuda"`` with or without a number.
        threads: Number of threads that one call may use; if not given, the number of cores.

    Raises:
        ModelFileError: The file is missing, damaged or not of this project, does not compute what
            its card describes, or the file's backend is not installed or cannot use the device.
    """
    backend = find_backend(path)
    if not path.is_file():
        raise ModelFileError(
            f"there is no model file {path}: give a checkpoint, or a file that 'eurosat export' "
            "wrote"
        )
    try:
        model = backend(path, device=device, threads=threads or available_cores())
    except ImportError as error:
        raise ModelFileError(
            f"{path} needs {error.name}, which is not installed: pip install '{backend.install}'"
        ) from error
    _check_answers(model, path)
    return model


def _check_answers(model: Model, path: Path) -> None:
    """Classify an empty patch, and the patch with a patch of many values; compare with the card.

    Raises:
        ModelFileError: The model cannot classify the card's patches, or gives something else than
            probabilities of the card's classes and one vector of features for each patch.
    """
    card = model.card
    patches = np.zeros((2, *card.shape), card.dtype)
    patches[1] = np.resize(np.arange(10_000), card.shape).astype(card.dtype)
    for count in (1, 2):
        try:
            output = model.run(patches[:count])
        except Exception as error:  # The backends have no common class of errors.
            raise ModelFileError(
                f"{path} cannot classify the patches that its card describes ({card.dtype} of "
                f"shape {card.shape}; {type(error).__name__}: {error}): export the file again from "
                "its checkpoint"
            ) from error
        if fault := fault_of(output, count, card):
            raise ModelFileError(
                f"{path} does not compute what its card describes, because {fault}: export the "
                "file again from its checkpoint"
            )


def fault_of(output: Output, count: int, card: ModelCard) -> str | None:
    """Describe what is wrong with an output for a number of patches; None if nothing is."""
    probabilities, features = output
    if probabilities.dtype != np.float32 or probabilities.shape != (count, len(card.classes)):
        return (
            f"it gives {probabilities.dtype} of shape {probabilities.shape} for {count} patches "
            f"and {len(card.classes)} classes"
        )
    sums = probabilities.sum(axis=1)
    wrong = ~((np.abs(sums - 1) < 1e-3) & (probabilities >= 0).all(axis=1))  # NaN is neither
    if wrong.any():
        return f"the probabilities of a patch are negative or sum to {sums[wrong][0]:g}"
    if features is not None and (
        features.dtype != np.float32
        or features.ndim != 2
        or len(features) != count
        or not np.isfinite(features).all()
    ):
        return (
            f"it gives features of {features.dtype} and shape {features.shape} for {count} "
            "patches, or the features are not finite"
        )
    return None
