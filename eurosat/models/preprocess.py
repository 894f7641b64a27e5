"""Preprocessing inside the model: raw pixels in, normalised floats out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eurosat.bands import resolve_channels


class Preprocess(nn.Module):
    """Normalises raw pixels channel by channel, on the model's device.

    The statistics are buffers, so that a checkpoint carries them, and training, evaluation, export
    and serving use the same statistics.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, bands: str | Sequence[str]) -> None:
        """Use EuroSAT's statistics of the chosen channels.

        Args:
            bands: ``"rgb"``, ``"all"`` or band names, as :func:`eurosat.bands.resolve_channels`.
        """
        super().__init__()
        self.channels = resolve_channels(bands)
        self.register_buffer("mean", torch.empty(1, len(self.channels), 1, 1))
        self.register_buffer("std", torch.empty(1, len(self.channels), 1, 1))
        self.set_statistics(
            [channel.mean for channel in self.channels], [channel.std for channel in self.channels]
        )

    def set_statistics(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Replace the statistics, for example by the statistics of pretrained weights.

        Args:
            mean: One mean per channel, in raw pixel values.
            std: One standard deviation per channel, in raw pixel values.
        """
        self.mean.copy_(torch.tensor(mean).view_as(self.mean))
        self.std.copy_(torch.tensor(std).view_as(self.std))

    def forward(self, patches: Tensor) -> Tensor:
        """Normalise.

        Args:
            patches: uint8, uint16 or float raw pixel values, shape (B, C, height, width).

        Returns:
            float32, same shape and memory format.
        """
        return (patches.to(self.mean.dtype) - self.mean) / self.std
