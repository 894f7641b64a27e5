"""The metric of a trial of Vertex AI's search for hyperparameters."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

_TRIAL = "CLOUD_ML_TRIAL_ID"
_FILE = "CLOUD_ML_HP_METRIC_FILE"
_DEFAULT_FILE = "/tmp/hypertune/output.metrics"


class VertexTrial(Callback):
    """Tells Vertex AI the validation metrics after every epoch.

    Vertex AI reads JSON lines from a file, one per measurement, with texts as values. The format is
    that of Google's package cloudml-hypertune, which is not maintained. The name of a metric has an
    underscore in place of the slash, such as ``val_accuracy``.
    """

    def __init__(self, file: Path, trial: str) -> None:
        """Store the file and the number of the trial."""
        self.file = file
        self.trial = trial

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "VertexTrial | None":
        """Make the callback in a trial of Vertex AI; None elsewhere."""
        trial = environment.get(_TRIAL)
        return cls(Path(environment.get(_FILE) or _DEFAULT_FILE), trial) if trial else None

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Append the metrics of an epoch, on the first process."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            for name, value in trainer.callback_metrics.items():
                if not name.startswith("val/"):
                    continue
                line = {
                    "timestamp": time.time(),
                    "trial": self.trial,
                    name.replace("/", "_"): str(float(value)),
                    "global_step": str(trainer.global_step),
                    "checkpoint_path": "",
                }
                file.write(json.dumps(line) + "\n")
