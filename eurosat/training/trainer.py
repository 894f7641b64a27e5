"""Lightning's Trainer, with a precision that fits the hardware."""

from typing import Any, Literal

import lightning
import torch

from eurosat.hardware import computes_bf16

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
"""What ``--trainer.precision`` takes."""


class Trainer(lightning.Trainer):
    """Lightning's Trainer that also takes ``precision: auto``."""

    def __init__(self, *, precision: Precision = "auto", **kwargs: Any) -> None:
        """Resolve ``auto``; everything else is Lightning's.

        Args:
            precision: 'auto' takes bf16 mixed precision where the hardware computes in bf16, else
                32 bits; or any precision of Lightning.
            **kwargs: See `lightning.Trainer`.
        """
        if precision == "auto":
            precision = "bf16-mixed" if computes_bf16(str(kwargs.get("accelerator"))) else "32-true"
        super().__init__(precision=precision, **kwargs)
        # Deterministic algorithms also fill new memory, so that programs that read it before they
        # write it repeat themselves. Nothing here does, and filling slows a CPU's step by 5 %.
        deterministic: Any = torch.utils.deterministic
        deterministic.fill_uninitialized_memory = False
