"""Mixup and CutMix: training on blends of two patches and of their labels."""

import math

import numpy as np
import torch
from torch import Tensor

from eurosat.errors import SettingsError


class Mixing:
    """Blends a batch with a permutation of itself.

    The random draws depend only on the seed and the step, so that a resumed training repeats them.
    """

    def __init__(self, mixup_alpha: float, cutmix_alpha: float, probability: float) -> None:
        """Store the settings. Where both alphas are positive, each batch draws one of the two.

        Args:
            mixup_alpha: Parameter of mixup's Beta distribution (Zhang et al., 2018); 0 disables
                mixup.
            cutmix_alpha: Parameter of CutMix's Beta distribution (Yun et al., 2019); 0 disables
                CutMix.
            probability: Probability that a batch is blended, 0 to 1.

        Raises:
            SettingsError: A parameter is infinite.
        """
        if not math.isfinite(mixup_alpha + cutmix_alpha):
            raise SettingsError(
                "--model.mixup_alpha and --model.cutmix_alpha are parameters of a Beta "
                "distribution, which has no infinite parameters: pass numbers such as 0.2"
            )
        self.mixup_alpha = mixup_alpha
        self.cutmix_alpha = cutmix_alpha
        self.probability = probability

    def __call__(
        self, patches: Tensor, targets: Tensor, seed: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Blend one batch.

        Args:
            patches: Normalised patches, float, shape (B, C, height, width).
            targets: Class probabilities, float, shape (B, classes).
            seed: Numbers that identify the draw, such as the run's seed, the step and the rank.

        Returns:
            Blended patches and targets, of the same shapes.
        """
        generator = np.random.default_rng(seed)
        if generator.random() >= self.probability:
            return patches, targets
        order = torch.from_numpy(generator.permutation(len(patches))).to(patches.device)
        coin = generator.random() < 0.5
        if self.cutmix_alpha > 0 and (coin or self.mixup_alpha == 0):
            kept = generator.beta(self.cutmix_alpha, self.cutmix_alpha)
            patches, kept = _paste(patches, order, kept, generator)
        else:
            kept = generator.beta(self.mixup_alpha, self.mixup_alpha)
            patches = torch.lerp(patches[order], patches, kept)
        return patches, torch.lerp(targets[order], targets, kept)


def _paste(
    patches: Tensor, order: Tensor, kept: float, generator: np.random.Generator
) -> tuple[Tensor, float]:
    """Paste a box of each partner into each patch; return the fraction of the patch that stays."""
    height, width = patches.shape[-2:]
    box_height, box_width = (round(side * math.sqrt(1 - kept)) for side in (height, width))
    top = generator.integers(height - box_height + 1)
    left = generator.integers(width - box_width + 1)
    box = (..., slice(top, top + box_height), slice(left, left + box_width))
    pasted = patches.clone()
    pasted[box] = patches[box][order]
    return pasted, 1 - box_height * box_width / (height * width)
