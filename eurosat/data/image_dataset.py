"""Image files that a model classifies, one at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from eurosat.bands import is_rgb, select_bands
from eurosat.errors import DataSourceError
from eurosat.pixels import decode, resize


class ImageFileDataset(Dataset[dict[str, Any]]):
    """Single image files, for prediction; an image of another size is resized to a patch."""

    def __init__(
        self,
        files: Sequence[Path],
        channels: Sequence[Any],
        size: int,
        band_order: Sequence[str] | None = None,
    ) -> None:
        """Wrap the files.

        Args:
            files: Image files.
            channels: The channels that the model takes.
            size: Height and width of a patch in pixels.
            band_order: Names of the 13 bands of files that do not name their bands.
        """
        self.files = files
        self.band_order = band_order
        self.rgb = is_rgb(channels)
        self.channels = channels
        self.size = size

    def __len__(self) -> int:
        """Number of files."""
        return len(self.files)

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Decode one file.

        Returns:
            ``image``, raw pixels of shape (C, size, size); ``file``, its name; ``resized``,
            whether the file has another size; ``error``, the reason if the file cannot be read, in
            which case the pixels are 0, and otherwise an empty text.
        """
        file = self.files[item]
        pixels = np.zeros(
            (self.size, self.size, len(self.channels)), np.uint8 if self.rgb else np.uint16
        )
        reason = ""
        try:
            data = file.read_bytes()
            pixels = decode(data, str(file), rgb=self.rgb, band_order=self.band_order).pixels
            if not self.rgb:
                pixels = np.ascontiguousarray(select_bands(pixels, self.channels))
        except DataSourceError as error:
            reason = str(error)
        except OSError as error:
            reason = f"{file} cannot be read ({error.strerror}): change the rights of the file"
        patch = resize(pixels, self.size)
        return {
            "image": torch.from_numpy(patch.copy()).permute(2, 0, 1),
            "file": str(file),
            "resized": patch.shape != pixels.shape,
            "error": reason,
        }
