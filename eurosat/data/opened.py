"""Opened data: the store, its splits, and the channels that the model takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eurosat.bands import Channel, is_rgb, render_rgb, select_bands
from eurosat.data.splits import SplitName, Splits
from eurosat.data.store import Store


@dataclass(frozen=True)
class OpenedData:
    """A store that is open and split.

    Attributes:
        store: All patches and their labels.
        splits: Which patches train, validate and test.
        channels: The channels that the model takes, in order.
    """

    store: Store
    splits: Splits
    channels: tuple[Channel, ...]

    @property
    def patch_size(self) -> int:
        """Height and width of a patch in pixels."""
        return int(self.store.images.shape[1])

    @property
    def rgb(self) -> bool:
        """Whether patches are uint8 RGB rather than uint16 bands."""
        return is_rgb(self.channels)

    def rgb_patches(self, indices: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Render patches as RGB images for people.

        Args:
            indices: Positions in the store.

        Returns:
            uint8, shape (len(indices), height, width, 3).
        """
        patches = self.store.images[np.asarray(indices, dtype=np.int64)]
        return patches if self.store.card.rgb else render_rgb(patches)

    def draw(
        self, split: SplitName, count: int | None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Draw patches from all classes in proportion; every call draws the same patches.

        Args:
            split: The split to draw from.
            count: Number of patches; None, or a number larger than the split, draws the whole
                split.

        Returns:
            Raw patches of the model's channels, uint8 or uint16, shape (N, C, height, width), and
            their labels, int64, shape (N,).
        """
        indices = np.random.default_rng(0).permutation(self.splits[split])
        if count is not None and count < len(indices):
            # Every n-th patch in the order of classes is drawn, so each class keeps its proportion.
            ordered = indices[np.argsort(self.store.labels[indices], kind="stable")]
            indices = ordered[np.linspace(0, len(ordered) - 1, count).round().astype(np.int64)]
            indices = np.random.default_rng(0).permutation(indices)
        pixels = self.store.images[indices]
        if not self.rgb:
            pixels = select_bands(pixels, self.channels)
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), self.store.labels[indices]
