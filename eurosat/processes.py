"""Child processes that hear what is to end this one."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from types import FrameType
from typing import IO

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last when a terminal is closed


def supervise(
    command: Sequence[str],
    devices: Sequence[str] = (),
    output: IO[str] | None = None,
    locks: Sequence[int] = (),
) -> dict[str, int]:
    """Run a command once for each device, and pass on what is to end it.

    Args:
        command: The command and its arguments.
        devices: GPUs, of which each process sees one; a single process if there are none, which
            is reported as ``"cpu"`` and sees what this one sees.
        output: Where what the processes print goes; where this one prints, if not given.
        locks: Descriptors of files that this process has locked (``flock``). The processes hold
            the locks too: should this one be killed outright, until they end as well.

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
    # What is ignored stays so: nohup keeps a closed terminal from ending anything.
    heard = [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, end) for number in heard}
    try:
        for device in devices or ["cpu"]:
            gpu = {"CUDA_VISIBLE_DEVICES": device} if devices else {}
            # A group of its own, so that the terminal's Ctrl-C does not reach it past this process.
            processes[device] = subprocess.Popen(
                command,
                env=os.environ | {"PATH": path} | gpu,
                stdout=output,
                stderr=output,
                process_group=0,
                pass_fds=locks,
            )
            if ending.is_set():  # the signal came while it started
                processes[device].send_signal(signal.SIGTERM)
        return {device: process.wait() for device, process in processes.items()}
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
