"""Making, writing and reading the reference of a model's file."""

import base64
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from eurosat.errors import ModelReferenceError
from eurosat.files import atomic_write
from eurosat.inference.backend import Model, Patches, join_outputs
from eurosat.inference.checkpoint import reference_file
from eurosat.monitoring.reference import Reference, card_reference, make_reference
from eurosat.monitoring.statistics import input_statistics

_log = logging.getLogger(__name__)

_BATCH = 64


def observe_images(
    model: Model, patches: Patches, labels: npt.NDArray[np.int64]
) -> Reference | None:
    """Make the reference of a model from validation images, with a progress bar.

    Args:
        model: The opened model file.
        patches: Raw validation patches, shape (N, C, size, size), in a random order.
        labels: True labels, shape (N,).

    Returns:
        The reference; None if the model gives no features.

    Raises:
        ModelReferenceError: There are fewer than two images, or an output is not finite.
    """
    starts = range(0, len(patches), _BATCH)
    outputs = []
    for start in tqdm(starts, desc="Reference", unit="batch", leave=False, disable=None):
        outputs.append(model.run(patches[start : start + _BATCH]))
        if outputs[-1].features is None:
            _log.warning(
                "the model %s gives no features: the service will give no out-of-distribution "
                "scores",
                model.card.version,
            )
            return None
    output = join_outputs(outputs)
    assert output.features is not None
    reference = make_reference(
        model.card,
        output.features,
        output.probabilities,
        np.concatenate(
            [
                input_statistics(patches[start : start + _BATCH], model.card.bands)
                for start in starts
            ]
        ),
        labels,
    )
    if not reference.can_flag:
        _log.warning(
            "the validation split has %d images, and 99 are needed to flag the most unusual 1 %%: "
            "the service will flag no image as out of distribution",
            len(labels),
        )
    return reference


def save_reference(checkpoint: Path, reference: Reference) -> None:
    """Write the reference of a checkpoint beside the checkpoint."""
    with atomic_write(reference_file(checkpoint)) as partial:
        partial.write_bytes(reference.to_bytes())


def encode_reference(reference: Reference | None) -> str:
    """Write a reference as base64 for a model card; an empty text if there is none."""
    return base64.b64encode(reference.to_bytes()).decode() if reference else ""


def read_reference(path: Path) -> Reference:
    """Read the reference of a model file, or a reference in a file of its own.

    Args:
        path: A model file of any format, or the ``.reference.npz`` beside a checkpoint.

    Raises:
        ModelReferenceError: There is no such file, or the file holds no reference.
        ModelFileError: The model file is damaged.
    """
    from eurosat.inference.runtime import open_model

    if path.suffix == ".npz":
        try:
            return Reference.from_bytes(path.read_bytes(), str(path))
        except OSError as error:
            raise ModelReferenceError(
                f"{path} cannot be read ({error.strerror}): give a model file or a reference"
            ) from error
    reference = card_reference(open_model(path, threads=1).card, str(path))
    if reference is None:
        raise ModelReferenceError(
            f"{path} has no reference, because an older version of eurosat wrote the file, or "
            "because the model gives no features: export the model again"
        )
    return reference
