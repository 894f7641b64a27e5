"""SIGTERM, which sweeps, schedulers and clouds send, as an end that a run can record."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

_launchers: list[Any] = []
"""Lightning's hold on the other processes of the run under way, if this one started them."""


@contextmanager
def recorded_termination() -> Iterator[None]:
    """Turn SIGTERM into Lightning's exception, then end the process as the signal would have.

    While one process trains or tests, Lightning has a handler of its own, which raises the same
    exception after the batch, or TerminationGuard does after the last one. This handler covers the
    rest, and runs of several processes.

    The process ends by the signal rather than by an exit code because W&B's agent counts exit
    codes as failures of the sweep, and gives up after a few, but not runs that it stopped itself.
    """
    if threading.current_thread() is not threading.main_thread():  # only there can one listen
        yield
        return
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except SIGTERMException:
        if cast(Any, rank_zero_only).rank == 0:
            for launcher in _launchers:
                launcher.kill(signal.SIGKILL)  # who waits for this process on a GPU hears no less
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        _launchers.clear()
        signal.signal(signal.SIGTERM, previous)


def listen_instead_of_lightning(trainer: Any) -> None:
    """Let SIGTERM end a run of several processes at once.

    Lightning's handler broadcasts in the middle of whatever the processes exchange, and all wait
    for ever.

    Args:
        trainer: The trainer, after it has begun to listen itself.
    """
    launcher = trainer.strategy.launcher
    if launcher is not None and launcher not in _launchers:
        _launchers.append(launcher)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    if signal.getsignal(number) is not _terminate:
        return  # Lightning listens, calls this one as well, and will raise after the batch
    signal.signal(number, signal.SIG_IGN)  # a second one must not tear the record
    for launcher in _launchers:
        launcher.kill(number)
    raise SIGTERMException
