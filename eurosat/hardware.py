"""The hardware of a run: what it is, and whether it computes in bfloat16."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from eurosat.errors import AcceleratorError
from eurosat.operating_system import available_cores, memory_gib

if TYPE_CHECKING:
    import lightning


@dataclass(frozen=True)
class Hardware:
    """A machine and the devices that a trainer uses; None is unknown.

    Attributes:
        platform: Operating system and processor architecture.
        python: Version of Python.
        cpu: Name of the processor.
        cores: Number of logical cores that the process may use.
        threads: Number of threads that torch computes with.
        memory_gib: Main memory in GiB.
        accelerator: Name of the GPU, or the type of another device, such as ``"cpu"``.
        devices: Number of processes, one a device.
        precision: Lightning's precision, such as ``"bf16-mixed"``.
    """

    platform: str | None = None
    python: str | None = None
    cpu: str | None = None
    cores: int | None = None
    threads: int | None = None
    memory_gib: float | None = None
    accelerator: str | None = None
    devices: int = 1
    precision: str | None = None


def hardware(trainer: "lightning.Trainer") -> Hardware:
    """Describe the machine and the devices that a trainer uses."""
    import torch

    cuda = trainer.strategy.root_device.type == "cuda"
    return Hardware(
        platform=platform.platform(),
        python=platform.python_version(),
        cpu=torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        cores=available_cores(),
        threads=torch.get_num_threads(),
        memory_gib=memory_gib(),
        accelerator=torch.cuda.get_device_name() if cuda else trainer.strategy.root_device.type,
        devices=trainer.world_size,
        precision=str(trainer.precision),
    )


def computes_bf16(accelerator: str = "auto") -> bool:
    """Whether the hardware computes in bfloat16 natively.

    Args:
        accelerator: 'cpu', 'gpu', 'cuda', or 'auto', which prefers a GPU.
    """
    import torch

    if accelerator != "cpu" and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator in ("mps", "tpu"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def check_cuda() -> None:
    """Check that torch can use a GPU.

    Raises:
        AcceleratorError: There is no GPU, or its driver is too old for torch's CUDA.
    """
    import torch

    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return
    raise AcceleratorError(
        f"no GPU can be used ({_why_no_cuda()}): give a container a GPU (--gpus all), upgrade the "
        f"driver to one for CUDA {torch.version.cuda}, or pass --trainer.accelerator cpu"
    )


def idle_gpu(devices: Path = Path("/dev")) -> str | None:
    """Why torch cannot use the NVIDIA GPU of this machine; None without a GPU, or if torch can.

    Args:
        devices: Folder of device files, in which the driver puts ``nvidia0`` for the first GPU.
    """
    import torch

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")  # the user wants no GPU
    if hidden or torch.cuda.is_available() or not any(devices.glob("nvidia[0-9]*")):
        return None
    return _why_no_cuda()


def _why_no_cuda() -> str:
    import torch

    try:
        cast(Any, torch.cuda).init()
    except (RuntimeError, AssertionError) as error:
        return " ".join(str(error).split())
    return "torch finds no device"
