"""The machine that a run used."""

import os
import platform
from typing import Any

import lightning
import torch


def hardware(trainer: lightning.Trainer) -> dict[str, Any]:
    """The machine and the devices the trainer uses."""
    cuda = trainer.strategy.root_device.type == "cuda"
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "accelerator": torch.cuda.get_device_name() if cuda else trainer.strategy.root_device.type,
        "devices": trainer.world_size,
        "precision": str(trainer.precision),
    }


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError):  # not a POSIX system
        return None
