"""The backend that runs checkpoints with PyTorch."""

from pathlib import Path

import numpy as np

from eurosat.errors import ModelFileError
from eurosat.inference.backend import Backend, Output, Patches, Probabilities
from eurosat.inference.backends import register_backend


@register_backend
class CheckpointBackend(Backend):
    """A checkpoint, which PyTorch loads as weights only and runs."""

    suffix = ".ckpt"
    install = "eurosat[train]"

    def __init__(self, path: Path, *, device: str, threads: int) -> None:
        """Open the file; see `Backend`."""
        import torch

        from eurosat.inference.checkpoint import open_checkpoint

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelFileError(
                f"{path} cannot run on {device}, because PyTorch finds no CUDA device: choose "
                "--device cpu"
            )
        torch.set_num_threads(threads)
        self._torch = torch
        self._device = torch.device(device)
        predictor, self.card = open_checkpoint(path)
        self._module = predictor.to(self._device)
        example = np.zeros((1, *self.card.shape), self.card.dtype)
        self._described = predictor.has_features(torch.from_numpy(example).to(self._device))

    def predict(self, patches: Patches) -> Probabilities:
        """Classify raw patches; see `Model.predict`."""
        return self.run(patches).probabilities

    def run(self, patches: Patches) -> Output:
        """Classify raw patches, and give their features; see `Model.run`."""
        with self._torch.inference_mode():
            batch = self._torch.from_numpy(np.ascontiguousarray(patches)).to(self._device)
            if self._described:
                probabilities, features = self._module.describe(batch)
                return Output(probabilities.cpu().numpy(), features.cpu().numpy())
            return Output(self._module(batch).cpu().numpy(), None)

    @classmethod
    def cuda_devices(cls) -> int:
        """Number of CUDA devices that PyTorch finds."""
        import torch

        return torch.cuda.device_count()
