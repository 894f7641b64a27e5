"""Machine types of Vertex AI and the accelerators that they take."""

import re
from collections.abc import Mapping
from typing import Any

from eurosat.errors import VertexError

_ATTACHED = {
    "NVIDIA_TESLA_T4": (1, 2, 4),
    "NVIDIA_TESLA_V100": (1, 2, 4, 8),
    "NVIDIA_TESLA_P100": (1, 2, 4),
    "NVIDIA_TESLA_P4": (1, 2, 4),
}
"""Numbers of accelerators that can be attached to an n1 machine, by type."""

_BUILT_IN = {
    "g2-standard-4": ("NVIDIA_L4", 1),
    "g2-standard-8": ("NVIDIA_L4", 1),
    "g2-standard-12": ("NVIDIA_L4", 1),
    "g2-standard-16": ("NVIDIA_L4", 1),
    "g2-standard-24": ("NVIDIA_L4", 2),
    "g2-standard-32": ("NVIDIA_L4", 1),
    "g2-standard-48": ("NVIDIA_L4", 4),
    "g2-standard-96": ("NVIDIA_L4", 8),
    "a2-highgpu-1g": ("NVIDIA_TESLA_A100", 1),
    "a2-highgpu-2g": ("NVIDIA_TESLA_A100", 2),
    "a2-highgpu-4g": ("NVIDIA_TESLA_A100", 4),
    "a2-highgpu-8g": ("NVIDIA_TESLA_A100", 8),
    "a2-megagpu-16g": ("NVIDIA_TESLA_A100", 16),
    "a2-ultragpu-1g": ("NVIDIA_A100_80GB", 1),
    "a2-ultragpu-2g": ("NVIDIA_A100_80GB", 2),
    "a2-ultragpu-4g": ("NVIDIA_A100_80GB", 4),
    "a2-ultragpu-8g": ("NVIDIA_A100_80GB", 8),
    "a3-highgpu-1g": ("NVIDIA_H100_80GB", 1),
    "a3-highgpu-2g": ("NVIDIA_H100_80GB", 2),
    "a3-highgpu-4g": ("NVIDIA_H100_80GB", 4),
    "a3-highgpu-8g": ("NVIDIA_H100_80GB", 8),
    "a3-megagpu-8g": ("NVIDIA_H100_MEGA_80GB", 8),
}
"""Accelerators that a machine type always has."""

_WITHOUT = re.compile(r"(n1|n2|n2d|e2|c2|c2d|c3|m1)-[a-z]+-\d+")
"""Machine types that have no accelerator of their own.

Source of all three tables: https://cloud.google.com/vertex-ai/docs/training/configure-compute
"""


def check_machine(machine: Mapping[str, Any], where: str) -> None:
    """Check that Vertex AI has a machine type and that it takes the requested accelerator.

    Args:
        machine: A ``machineSpec``.
        where: Name of the place in the spec, for the error message.

    Raises:
        VertexError: There is no such machine type, or it does not take the accelerator.
    """
    name = machine.get("machineType")
    wanted = machine.get("acceleratorType"), int(machine.get("acceleratorCount", 0))
    if name in _BUILT_IN:
        if wanted != _BUILT_IN[str(name)]:
            kind, count = _BUILT_IN[str(name)]
            raise VertexError(
                f"{where}: {name} has {count} {kind}, and the spec asks for {wanted[1]} "
                f"{wanted[0]}: set acceleratorType {kind} and acceleratorCount {count}"
            )
        return
    if not isinstance(name, str) or not _WITHOUT.fullmatch(name):
        raise VertexError(
            f"{where}: {name} is no machine type of Vertex AI that eurosat knows: choose one such "
            "as n1-standard-8, g2-standard-8 or a2-highgpu-1g"
        )
    if wanted == (None, 0):
        return
    if not name.startswith("n1-"):
        raise VertexError(
            f"{where}: {name} takes no accelerator: choose an n1 machine for a T4, V100 or P100, "
            "and a g2, a2 or a3 machine for an L4, A100 or H100"
        )
    if wanted[1] not in _ATTACHED.get(str(wanted[0]), ()):
        known = ", ".join(f"{kind} {counts}" for kind, counts in _ATTACHED.items())
        raise VertexError(
            f"{where}: {name} does not take {wanted[1]} {wanted[0]}: an n1 machine takes {known}"
        )
