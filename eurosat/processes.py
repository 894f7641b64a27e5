"""Child processes that receive the signals which end this process, on Linux and macOS."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from types import FrameType
from typing import IO

from eurosat.operating_system import ENDING_SIGNALS


def supervise(
    command: Sequence[str],
    devices: Sequence[str] = (),
    output: IO[str] | None = None,
    locks: Sequence[int] = (),
) -> dict[str, int]:
    """Run a command once per device, and forward ending signals to the child processes.

    Args:
        command: The command and its arguments.
        devices: GPUs; each child process sees one GPU. Without GPUs there is a single child
            process, which is reported as ``"cpu"`` and sees the same devices as this process.
        output: File for the output of the child processes; this process's output if not given.
        locks: Descriptors of files that this process has locked with `filelock.lock_descriptor`.
            The child processes inherit the locks, so that a lock outlives this process if it is
            killed.

    Returns:
        Exit code by device; a negative exit code is the negated number of a signal.
    """
    # The command may call `eurosat`: this environment's, even where it is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    processes: dict[str, subprocess.Popen[bytes]] = {}
    ending = Event()

    def end(number: int, frame: FrameType | None) -> None:
        ending.set()
        for process in processes.values():
            process.send_signal(signal.SIGTERM)  # does nothing if the process has ended

    # Ctrl-C is forwarded as SIGTERM, because a run of several processes cannot record a SIGINT
    # that reaches only one process. An ignored signal stays ignored, as nohup asks.
    heard = [number for number in ENDING_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, end) for number in heard}
    try:
        for device in devices or ["cpu"]:
            gpu = {"CUDA_VISIBLE_DEVICES": device} if devices else {}
            # In a process group of its own, the child does not get the terminal's Ctrl-C.
            processes[device] = subprocess.Popen(
                command,
                env=os.environ | {"PATH": path} | gpu,
                stdout=output,
                stderr=output,
                process_group=0,
                pass_fds=locks,
            )
            if ending.is_set():  # the signal arrived while the process started
                processes[device].send_signal(signal.SIGTERM)
        return {device: process.wait() for device, process in processes.items()}
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
