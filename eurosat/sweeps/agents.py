"""Running W&B's agents on the GPUs of this machine."""

import os
import sys
from collections.abc import Sequence

from eurosat.processes import supervise


def gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else map(str, range(torch.cuda.device_count()))
    return list(names)[: torch.cuda.device_count()]


def run_agents(sweep: str, devices: Sequence[str], count: int | None) -> dict[str, int]:
    """Run one of W&B's agents on each device until all agents have ended.

    Ctrl-C and SIGTERM end the agents and their current runs; each run writes its record first.

    Args:
        sweep: The sweep as ENTITY/PROJECT/ID.
        devices: GPUs; each GPU gets one agent. Without GPUs, one agent runs on the CPU.
        count: Runs of each agent; as many as the sweep has if None.

    Returns:
        The agents' exit codes, by device.
    """
    # Without --forward-signals a terminated agent leaves its run behind.
    command = [sys.executable, "-m", "wandb", "agent", "--forward-signals"]
    command += ["--count", str(count)] if count is not None else []
    return supervise([*command, sweep], devices)
