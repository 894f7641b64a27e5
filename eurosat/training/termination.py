"""Handling of SIGTERM, which sweeps, schedulers and clouds send, so that a run records its end."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException

from eurosat.operating_system import KILL

_launchers: list[Any] = []
"""Lightning's launchers of the other processes of the current run, if this process started them."""


@contextmanager
def recorded_termination(*, launched: bool = False) -> Iterator[None]:
    """Turn SIGTERM into Lightning's exception, then end the process by the same signal.

    A shell reports this end as exit code 143. The kernel does not let a signal end the first
    process of a container, so that process ends with the exit code 143 itself.

    While one process trains or tests, Lightning has a handler of its own, which raises the same
    exception after the batch, or TerminationGuard does after the last one. This handler covers the
    rest, and runs of several processes.

    The process ends by the signal rather than by an exit code because W&B's agent counts exit
    codes as failures of the sweep, and gives up after a few, but not runs that it stopped itself.

    Args:
        launched: Whether the first process of a run on this machine has launched this process.
            The first process reports how the run ended.
    """
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # Python handles signals in the main thread only
        yield
        return
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except SIGTERMException:
        if not launched:
            for launcher in _launchers:
                launcher.kill(KILL)  # a process that waits on a GPU ignores SIGTERM
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        _launchers.clear()
        signal.signal(signal.SIGTERM, previous)


def listen_instead_of_lightning(trainer: Any) -> None:
    """Replace Lightning's SIGTERM handler in a run of several processes.

    Lightning's handler broadcasts in the middle of other communication, so that all processes wait
    forever.

    Args:
        trainer: The trainer, after Lightning has installed its own handler.
    """
    launcher = trainer.strategy.launcher
    if launcher is not None and launcher not in _launchers:
        _launchers.append(launcher)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    if signal.getsignal(number) is not _terminate:
        return  # Lightning's handler called this handler, and Lightning raises after the batch
    signal.signal(
        number, signal.SIG_IGN
    )  # a second SIGTERM must not interrupt the writing of the record
    for launcher in _launchers:
        launcher.kill(number)
    raise SIGTERMException
