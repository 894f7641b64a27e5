"""W&B's agents on the GPUs of this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from types import FrameType


def gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else map(str, range(torch.cuda.device_count()))
    return list(names)[: torch.cuda.device_count()]


def run_agents(sweep: str, devices: Sequence[str], count: int | None) -> dict[str, int]:
    """Run one of W&B's agents on each device until all have ended.

    Ctrl-C and SIGTERM end the agents and the runs under way, which write their records first.

    Args:
        sweep: The sweep as ENTITY/PROJECT/ID.
        devices: GPUs, one agent each; one agent on the CPU if there are none.
        count: Runs of each agent; as many as the sweep has if None.

    Returns:
        The agents' exit codes, by device.
    """
    # --forward-signals: without it an agent that is terminated leaves its run behind.
    command = [sys.executable, "-m", "wandb", "agent", "--forward-signals"]
    command += ["--count", str(count)] if count is not None else []
    return supervise([*command, sweep], devices)


def supervise(command: Sequence[str], devices: Sequence[str]) -> dict[str, int]:
    """Run a command once for each device, and pass on what is to end it.

    Args:
        command: The command and its arguments.
        devices: GPUs, of which each process sees one; a single process on the CPU if there are
            none.

    Returns:
        Exit codes by device; negative is the number of a signal.
    """
    # The runs call `eurosat`, which is that of this environment even if it is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    processes: dict[str, subprocess.Popen[bytes]] = {}
    ending = Event()

    def end(number: int, frame: FrameType | None) -> None:
        ending.set()
        for process in processes.values():
            process.send_signal(signal.SIGTERM)  # nothing to one that has ended

    # Ctrl-C as well: a run of several processes may not survive to record SIGINT to one of them.
    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for device in devices or ["cpu"]:
            gpu = {"CUDA_VISIBLE_DEVICES": device} if devices else {}
            # A group of its own, so that the terminal's Ctrl-C does not reach it past this process.
            processes[device] = subprocess.Popen(
                command, env=os.environ | {"PATH": path} | gpu, process_group=0
            )
            if ending.is_set():  # the signal came while it started
                processes[device].send_signal(signal.SIGTERM)
        return {device: process.wait() for device, process in processes.items()}
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
