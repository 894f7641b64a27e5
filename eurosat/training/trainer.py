"""Lightning's Trainer with a default precision that fits the hardware."""

from typing import Any, Literal

import lightning
import torch

from eurosat.hardware import computes_bf16

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
"""Values of ``--trainer.precision``."""


class Trainer(lightning.Trainer):
    """Lightning's Trainer, with the additional ``precision: auto``."""

    def __init__(self, *, precision: Precision = "auto", **kwargs: Any) -> None:
        """Resolve ``auto``, and pass everything else on to Lightning.

        Args:
            precision: 'auto' is bf16 mixed precision where the hardware computes in bf16, and 32
                bits otherwise. All other values are Lightning's.
            **kwargs: See `lightning.Trainer`.
        """
        if precision == "auto":
            precision = "bf16-mixed" if computes_bf16(str(kwargs.get("accelerator"))) else "32-true"
        super().__init__(precision=precision, **kwargs)
        # Deterministic mode also fills uninitialised memory. No code here reads uninitialised
        # memory, and filling makes a step on a CPU 5 % slower.
        deterministic: Any = torch.utils.deterministic
        deterministic.fill_uninitialized_memory = False
