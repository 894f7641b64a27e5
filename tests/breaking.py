"""Callbacks and a logger that break a run; the processes of runs find them by ``ENVIRONMENT``."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from tests.conftest import REPOSITORY

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}


class SecondProcessFails(Callback):
    """An error on one process, while the first is busy and does not hear of it."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if trainer.global_rank == 1:
            raise ValueError("one process alone")
        time.sleep(60)


class TerminatedInLastTestBatch(Callback):
    """SIGTERM when nothing is left to compute."""

    def on_test_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.num_test_batches == [batch_idx + 1]:
            os.kill(os.getpid(), signal.SIGTERM)


class Interrupted(Callback):
    """Ctrl-C in the first batch."""

    def on_train_batch_start(self, *arguments: Any) -> None:
        raise KeyboardInterrupt


class Fails(Callback):
    """An error in the first batch."""

    def on_train_batch_start(self, *arguments: Any) -> None:
        raise ValueError("broken on purpose")


class BrokenLogger(CSVLogger):
    """A logger whose service is no more."""

    def __init__(self, save_dir: str) -> None:
        raise RuntimeError("the service is\nretired")


class StopsOnce(Callback):
    """A signal in the second batch of an epoch; a second run in the same folder does not stop."""

    def __init__(
        self, number: int = signal.SIGKILL, epoch: int = 1, workers_too: bool = False
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.workers_too = workers_too

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        marker = Path("stopped")
        if (trainer.current_epoch, batch_idx) == (self.epoch, 1) and not marker.exists():
            marker.touch()
            if self.workers_too:
                subprocess.run(["kill", f"-{self.number}", "--", f"-{os.getpgrp()}"], check=False)
            else:
                os.kill(os.getpid(), self.number)
