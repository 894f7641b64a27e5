"""Learning-rate schedules that span the whole training."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from eurosat.errors import SettingsError


class WarmupCosine(LambdaLR):
    """Linear warm-up, then a cosine decay to ``final`` (Loshchilov & Hutter, 2017).

    The classifier sets the number of optimiser steps when training starts, and advances the
    schedule after every optimiser step. A configuration does not repeat the training's length.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.1, final: float = 0.0) -> None:
        """Wrap an optimiser; its learning rate is the schedule's peak.

        Args:
            optimizer: The optimiser.
            warmup: Fraction of the training for the warm-up from ``peak / 25``, 0 to 1.
            final: Learning rate at the end as a fraction of the peak, 0 to 1.

        Raises:
            ValueError: A fraction is out of range.
        """
        if not (0 <= warmup < 1 and 0 <= final <= 1):
            raise ValueError(f"warmup {warmup} and final {final} are fractions from 0 to 1")
        self.warmup = warmup
        self.final = final
        self.total_steps = 1
        super().__init__(optimizer, self._factor)

    def span(self, steps: float) -> None:
        """Set the number of optimiser steps of the training.

        Raises:
            SettingsError: The training has no end.
        """
        if math.isinf(steps):
            raise SettingsError(
                "--trainer.max_epochs -1 gives the training no end, and WarmupCosine needs one: "
                "set --trainer.max_epochs or --trainer.max_steps, or choose another "
                "--model.lr_scheduler"
            )
        self.total_steps = int(steps)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step, but not the length, which may have changed since."""
        kept = {"warmup", "final", "total_steps"}
        super().load_state_dict({k: v for k, v in state_dict.items() if k not in kept})

    def _factor(self, step: int) -> float:
        progress = min(step / self.total_steps, 1.0)
        if progress < self.warmup:
            return 1 / 25 + (1 - 1 / 25) * progress / self.warmup
        cosine = 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))
        return self.final + (1 - self.final) * cosine
