"""Experiment tracking by Weights & Biases (W&B)."""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from eurosat.data.opened import OpenedData
from eurosat.errors import TrackingError
from eurosat.evaluation.predictions import Predictions
from eurosat.files import write_text
from eurosat.run_card import RunCard, read_run_card
from eurosat.training.loggers import status_of_failure
from eurosat.training.resume import has_begun
from eurosat.training.samples import draw_samples
from eurosat.wandb_client import default_project

if TYPE_CHECKING:
    from wandb import Artifact, Run, Table

_RUN_ID = "wandb_run_id"
"""File in the run's folder with the id of the W&B run, which a resumed run continues."""

_KILLED = 255
"""Exit code that W&B itself assigns to a run that a signal ended."""

_SECONDS_TO_HEAR = 0.5
"""Seconds in which W&B's service can process the cancellation of a request."""


class WandbTracker(WandbLogger):
    """Lightning's W&B logger that needs no account and closes runs with their status.

    Without credentials, W&B stores the run on disk for ``wandb sync`` and does not prompt for a
    key. ``WANDB_MODE`` has precedence where the variable is set. Only the first process of a run
    sends data to W&B.
    """

    def __init__(self, project: str | None = None, **settings: Any) -> None:
        """Choose the W&B project of the run.

        Args:
            project: Name of the W&B project. The default is the environment variable
                ``WANDB_PROJECT`` if set, and ``eurosat`` otherwise.
            **settings: See `lightning.pytorch.loggers.WandbLogger`.
        """
        super().__init__(project=project or default_project(), **settings)
        self.run_directory = Path(self.save_dir or ".")

    @property
    @rank_zero_experiment
    def experiment(self) -> "Run":
        """The W&B run; the first access starts the run.

        Raises:
            TrackingError: The server does not answer or refuses the key.
        """
        if self._experiment is None:
            import wandb

            # W&B warns if the folder does not exist.
            folder = Path(self.save_dir or ".")
            folder.mkdir(parents=True, exist_ok=True)
            known = self.run_directory / _RUN_ID
            if has_begun(self.run_directory) and known.is_file():  # a resumed run
                self._wandb_init["id"] = known.read_text("utf-8")
            self._wandb_init.pop("anonymous", None)  # Lightning's argument makes W&B warn
            try:
                self._wandb_init["mode"] = _mode()
                _ = super().experiment
            except wandb.Error as error:
                # W&B has cancelled a request that W&B's service was retrying. If this process
                # asks the service to exit before the service has processed the cancellation, the
                # service misses the request to exit, and this process waits forever.
                time.sleep(_SECONDS_TO_HEAR)
                raise TrackingError(
                    f"W&B cannot be used: {error} To train without it and upload the run later, "
                    "set WANDB_MODE=offline; 'wandb login --relogin' renews a key, and "
                    "WANDB_BASE_URL names a server of your own"
                ) from error
            write_text(known, str(self.version))
            self.log_hyperparams({"run_folder": str(self.run_directory)})
        return cast("Run", super().experiment)

    @rank_zero_only
    def log_predictions(
        self,
        predictions: Predictions,
        data: OpenedData,
        step: int,
    ) -> None:
        """Send the confusion matrix and a table of samples of a test.

        Args:
            predictions: Predictions of the test.
            data: Data from which the pictures are read.
            step: Number of optimiser steps that trained the tested model.
        """
        import wandb

        matrix = wandb.plot.confusion_matrix(
            y_true=predictions.labels.tolist(),
            preds=predictions.predicted.tolist(),
            class_names=list(predictions.classes),
            title="Confusion matrix of the test",
        )
        self.log_metrics(
            cast(
                "dict[str, float]",
                {
                    "test/confusion_matrix": matrix,
                    "test/samples": _sample_table(predictions, data),
                },
            ),
            step,
        )

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close a run after an error; `finish` closes other runs, as a test may follow the fit."""
        if status != "success" and self._experiment is not None:
            ended = status_of_failure(self.run_directory)
            kind = ended.partition(":")[0]
            run = self.experiment
            run.summary["status"] = ended
            run.tags = (*(run.tags or ()), kind)
            run.finish(exit_code=_KILLED if kind in ("interrupted", "terminated") else 1)

    @rank_zero_only
    def finish(self) -> None:
        """Send the best checkpoint of a fit that ended without an error, and close the run."""
        if self._experiment is None:
            return
        run, card = self.experiment, read_run_card(self.run_directory) or RunCard()
        for name in ("status", "images_per_second", "wall_seconds"):
            if (value := getattr(card, name)) is not None:
                run.summary[name] = value
        if card.best_checkpoint and card.epochs is not None:  # a test trains no model
            run.log_artifact(self._model(run.id, card), aliases=["best", "latest"])
        run.finish()

    def _model(self, run_id: str, card: RunCard) -> "Artifact":
        """Make an artifact of the best checkpoint, with the run's settings and test metrics."""
        import wandb

        facts = ("experiment", "seed", "data", "split", "git", "best_checkpoint")
        known = card.to_json()
        metadata = {name: known[name] for name in facts}
        metrics = self.run_directory / "metrics.json"
        test = json.loads(metrics.read_text("utf-8")) if metrics.is_file() else {}
        artifact = wandb.Artifact(f"model-{run_id}", "model", metadata=metadata | {"test": test})
        checkpoint = (self.run_directory / str(card.best_checkpoint)).resolve()
        # The checkpoint no longer changes, so W&B need not copy the file before the upload.
        artifact.add_file(str(checkpoint), name="model.ckpt", policy="immutable")
        return artifact


def _mode() -> str:
    """Return the mode of W&B's settings, or ``offline`` where there is no account."""
    import wandb

    mode = wandb.setup().settings.mode
    if mode not in ("online", "shared") or wandb.login(prompt=False):
        return mode
    if os.environ.get("WANDB_MODE"):
        raise TrackingError(
            f"WANDB_MODE={mode} needs an account, and there is none: run 'wandb login' or set "
            "WANDB_API_KEY; without WANDB_MODE the run is kept on disk for 'wandb sync'"
        )
    wandb.termlog(
        "There is no account here ('wandb login' or WANDB_API_KEY makes one known): the run is "
        "tracked offline, for 'wandb sync'."
    )
    return "offline"


def _sample_table(predictions: Predictions, data: OpenedData) -> "Table":
    """Make a table of a test's samples with pictures and the probability of each class."""
    import wandb

    columns = ["picture", "file", "label", "predicted", "right", "confidence"]
    rows = [
        [
            wandb.Image(sample.picture),
            sample.file,
            sample.label,
            sample.predicted,
            sample.right,
            sample.confidence,
            *sample.probabilities,
        ]
        for sample in draw_samples(predictions, data)
    ]
    return wandb.Table(columns=[*columns, *predictions.classes], data=rows)
