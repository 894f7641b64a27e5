"""Augmentation: albumentations transforms with reproducible random draws.

By default, albumentations repeats its draws in every worker and ignores the run's seed. In this
module the draws of a patch depend only on the seed, the epoch and the patch, so the draws do not
change with the number of workers, the number of ranks, the batch size or a resume.
"""

import os

# Without this variable, albumentations asks a server for its newest version on import.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import random
from collections.abc import Sequence
from typing import Any

import albumentations
import cv2
import numpy as np
import numpy.typing as npt
from albumentations import BaseCompose, BasicTransform

from eurosat.errors import AugmentationError


class RandomShift(albumentations.ImageOnlyTransform):  # type: ignore[misc]  # it has no types
    """Shifts patches of any size and any bands; the border is filled with its mirror image."""

    def __init__(self, pixels: int, p: float = 1.0) -> None:
        """Store the distance.

        Args:
            pixels: Largest distance in pixels; rows and columns move by independent distances from
                -pixels to pixels, all equally probable.
            p: Probability that a patch is shifted.

        Raises:
            AugmentationError: The distance is negative.
        """
        super().__init__(p=p)
        if pixels < 0:
            raise AugmentationError(f"RandomShift needs pixels of 0 or more, got {pixels}")
        self.pixels = pixels

    def get_params(self) -> dict[str, Any]:
        """Draw the first row and the first column of the shifted patch in the padded patch."""
        return {name: self.py_random.randrange(2 * self.pixels + 1) for name in ("row", "column")}

    def apply(self, img: npt.NDArray[Any], row: int, column: int, **_: Any) -> npt.NDArray[Any]:
        """Shift a patch of shape (height, width, channels)."""
        height, width = img.shape[:2]
        border = self.pixels
        padded = cv2.copyMakeBorder(img, border, border, border, border, cv2.BORDER_REFLECT_101)
        shifted = padded[row : row + height, column : column + width]
        return np.ascontiguousarray(shifted).reshape(img.shape)  # OpenCV drops a single channel


class Augmentation:
    """Applies a list of albumentations transforms to raw patches.

    Transforms take raw pixels (uint8 RGB or uint16 bands) and must give pixels of the same type
    and shape, because the model's preprocessing does the scaling and the normalisation. On uint16
    bands use transforms that only move pixels, such as D4 or ShiftScaleRotate.
    """

    def __init__(self, transforms: Sequence[BasicTransform | BaseCompose], seed: int) -> None:
        """Compose the transforms.

        Args:
            transforms: albumentations transforms in the order in which they are applied.
            seed: The run's seed.
        """
        self.seed = seed
        self._philox = np.random.Philox(key=0)
        self._random = random.Random()
        self._compose = albumentations.Compose(list(transforms))
        self._compose.set_random_state(np.random.Generator(self._philox), self._random)

    def __call__(self, patch: npt.NDArray[Any], epoch: int, index: int) -> npt.NDArray[Any]:
        """Augment one patch.

        Args:
            patch: uint8 or uint16, shape (height, width, channels).
            epoch: Number of the epoch.
            index: The patch's index in the store.

        Returns:
            The augmented patch, with the same shape and dtype.

        Raises:
            AugmentationError: A transform fails on the patch, or changes its type or shape.
        """
        self._reseed(epoch, index)
        try:
            augmented: npt.NDArray[Any] = self._compose(image=patch)["image"]
        except Exception as error:
            raise AugmentationError(
                f"an augmentation fails on {patch.dtype} patches of shape {patch.shape} ({error}): "
                "set height and width of RandomCrop and similar transforms to the size of the "
                "patches, or use eurosat.data.RandomShift; on 13 bands use transforms that only "
                "move pixels, such as albumentations.D4"
            ) from error
        if augmented.dtype != patch.dtype or augmented.shape != patch.shape:
            raise AugmentationError(
                f"an augmentation turns {patch.dtype} patches of shape {patch.shape} into "
                f"{augmented.dtype} of shape {tuple(augmented.shape)}: set height and width of "
                f"RandomCrop and similar transforms to {patch.shape[0]} and {patch.shape[1]}, and "
                "leave out Normalize, ToFloat, ToTensorV2 and resizing, because the model "
                "normalises the patches"
            )
        return augmented

    def _reseed(self, epoch: int, index: int) -> None:
        # Philox is counter-based: every key and counter select an independent stream at no cost.
        state = self._philox.state
        state["state"]["key"][:] = (self.seed, 0)
        state["state"]["counter"][:] = (0, 0, epoch, index)
        state["buffer_pos"], state["has_uint32"] = 4, 0
        self._philox.state = state
        self._random.seed(int(self._philox.random_raw()))
