"""Callbacks that break a run, for ``--trainer.callbacks``; runs find them by ``ENVIRONMENT``."""

import os
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from tests.conftest import REPOSITORY

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}


class SecondProcessFails(Callback):
    """An error on one process, while the first is busy and does not hear of it."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if trainer.global_rank == 1:
            raise ValueError("one process alone")
        time.sleep(60)
