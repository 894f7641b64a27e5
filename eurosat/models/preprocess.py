"""Preprocessing that ships with the model: raw pixels in, normalised floats out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eurosat.bands import resolve_channels


class Preprocess(nn.Module):
    """Normalises raw pixels channel by channel, on whatever device the model is.

    The statistics are buffers, so a checkpoint carries them and training, evaluation, export and
    serving cannot differ.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, bands: str | Sequence[str]) -> None:
        """Take the statistics of the chosen channels.

        Args:
            bands: ``"rgb"``, ``"all"`` or band names, as :func:`eurosat.bands.resolve_channels`.
        """
        super().__init__()
        self.channels = resolve_channels(bands)
        shape = (1, len(self.channels), 1, 1)
        mean = torch.tensor([channel.mean for channel in self.channels])
        std = torch.tensor([channel.std for channel in self.channels])
        self.register_buffer("mean", mean.view(shape))
        self.register_buffer("std", std.view(shape))

    def forward(self, patches: Tensor) -> Tensor:
        """Normalise.

        Args:
            patches: uint8, uint16 or float raw pixel values, shape (B, C, height, width).

        Returns:
            float32, same shape and memory format, zero mean and unit variance over EuroSAT.
        """
        return (patches.to(self.mean.dtype) - self.mean) / self.std
