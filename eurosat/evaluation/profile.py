"""Evaluate a profile: the phases' fractions of the time, and the bottleneck."""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Phase = Literal[
    "data",
    "transfer",
    "forward",
    "backward",
    "optimiser",
    "logging",
    "validation",
    "checkpoint",
    "other",
]
PHASES: tuple[Phase, ...] = get_args(Phase)
"""The phases of a training, in the order of a step."""

_MODEL: tuple[Phase, Phase] = ("forward", "backward")
_BETWEEN_STEPS: tuple[Phase, Phase] = ("validation", "checkpoint")


def summarise(seconds: npt.NDArray[np.float64], batch_size: int) -> dict[str, Any]:
    """Summarise the steps of a profile.

    Args:
        seconds: Time of each step in each phase, shape (steps, phases), in the order of `PHASES`.
            Time between two steps counts for the first step.
        batch_size: Patches per step, of all processes.

    Returns:
        ``steps``, ``images_per_second`` (validation and checkpoints left out), ``phases`` and
        ``bottleneck``, as in ``profile.json``.
    """
    total = seconds.sum()
    phases: dict[str, dict[str, float | None]] = {}
    for phase, column in zip(PHASES, seconds.T, strict=True):
        # Validations and checkpoints follow few steps, so a median over the steps would be 0.
        typical = None if phase in _BETWEEN_STEPS else 1000 * column
        phases[phase] = {
            "seconds": float(column.sum()),
            "share": float(column.sum() / total),
            "median_ms": None if typical is None else float(np.median(typical)),
            "p95_ms": None if typical is None else float(np.percentile(typical, 95)),
        }
    training = sum(phases[phase]["seconds"] or 0 for phase in PHASES if phase not in _BETWEEN_STEPS)
    # The same advice helps against the forward and the backward pass, so both are one candidate.
    candidates = [list(_MODEL), *([phase] for phase in PHASES if phase not in _MODEL)]
    fractions = [sum(phases[phase]["share"] or 0 for phase in group) for group in candidates]
    worst = max(range(len(fractions)), key=fractions.__getitem__)
    return {
        "steps": len(seconds),
        "images_per_second": len(seconds) * batch_size / training,
        "phases": phases,
        "bottleneck": {"phases": candidates[worst], "share": fractions[worst]},
    }
