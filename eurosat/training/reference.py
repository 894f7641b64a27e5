"""The reference of a run's best checkpoint, which the service and the drift report compare with."""

from pathlib import Path

import torch

from eurosat.data.opened import OpenedData
from eurosat.inference.backends.checkpoint import CheckpointBackend
from eurosat.monitoring.reference_files import observe_images, save_reference


def write_reference(checkpoint: Path, data: OpenedData, device: torch.device) -> None:
    """Observe the validation images with a checkpoint, and write the reference beside it.

    Args:
        checkpoint: The best checkpoint of the run.
        data: The run's data.
        device: The device of the training; without CUDA the CPU classifies the images.
    """
    model = CheckpointBackend(
        checkpoint,
        device=str(device) if device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
    )
    reference = observe_images(model, *data.draw("val", None))
    if reference is not None:
        save_reference(checkpoint, reference)
