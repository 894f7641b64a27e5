"""Experiment tracking by MLflow."""

import csv
import io
import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only

from eurosat.data.opened import OpenedData
from eurosat.errors import TrackingError
from eurosat.evaluation import figures
from eurosat.evaluation.predictions import Predictions
from eurosat.files import write_text
from eurosat.run_card import read_run_card
from eurosat.training.loggers import status_of_failure
from eurosat.training.resume import has_begun
from eurosat.training.samples import draw_samples

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_URI = "MLFLOW_TRACKING_URI"

_RECORD = ("config.yaml", "run.json", "metrics.json", "report.html")
"""Files that MLflow stores as artifacts, because MLflow cuts parameters to 250 characters."""

_RUN_ID = "mlflow_run_id"
"""File in the run's folder with the id of the MLflow run, which a resumed run continues."""


class MLflowTracker(MLFlowLogger):
    """Lightning's MLflow logger that also stores test samples and closes runs with their status.

    Without a server, MLflow stores the run in files in the run's folder.
    """

    def __init__(
        self,
        experiment_name: str | None = None,
        tracking_uri: str | None = None,
        save_dir: str | None = "./mlruns",
        log_model: Literal[True, False, "all"] = False,
        **settings: Any,
    ) -> None:
        """Choose the experiment and the store of the run.

        Args:
            experiment_name: Name of the experiment. The default is the environment variable
                ``MLFLOW_EXPERIMENT_NAME`` if set, and ``eurosat`` otherwise.
            tracking_uri: URI of a server or a store. The default is the environment variable
                ``MLFLOW_TRACKING_URI`` if set, and ``save_dir`` otherwise.
            save_dir: Folder of the store. The default is ``mlruns`` in the run's folder.
            log_model: Whether to store the best checkpoint as an artifact after a run without
                an error; ``all`` stores every checkpoint as soon as the checkpoint is saved.
            **settings: See `lightning.pytorch.loggers.MLFlowLogger`.
        """
        uri = tracking_uri or os.environ.get(_URI)
        super().__init__(
            experiment_name=experiment_name or os.environ.get("MLFLOW_EXPERIMENT_NAME", "eurosat"),
            tracking_uri=uri,
            save_dir=save_dir,
            log_model=log_model,
            **settings,
        )
        self.run_directory = Path(".")
        self._stores_best = log_model is True

    @property
    @rank_zero_experiment
    def experiment(self) -> "MlflowClient":
        """MLflow's client; the first access starts the run.

        Raises:
            TrackingError: The server does not answer or refuses the run.
        """
        from mlflow.exceptions import MlflowException

        self.tags = {"run_folder": str(self.run_directory)} | (self.tags or {})
        uri = os.environ.get(_URI)
        known = self.run_directory / _RUN_ID
        try:
            if self._run_id is None and has_begun(self.run_directory) and known.is_file():
                self._run_id = known.read_text("utf-8")
                self._mlflow_client.update_run(self._run_id, status="RUNNING")
            client = cast("MlflowClient", super().experiment)
            if not known.is_file():
                write_text(known, str(self._run_id))
            return client
        except MlflowException as error:
            raise TrackingError(
                f"MLflow cannot be used: {' '.join(str(error).split())}; check tracking_uri and "
                "MLFLOW_TRACKING_URI, or leave both out to keep the run in its folder"
            ) from error
        finally:  # MLflow sets the variable; the next run of this process must not read it
            os.environ.pop(_URI, None)
            if uri is not None:
                os.environ[_URI] = uri

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log only new parameters, because MLflow refuses to change the value of a parameter."""
        known = self.experiment.get_run(str(self.run_id)).data.params
        flat = _flatten(params if isinstance(params, dict) else vars(params))
        super().log_hyperparams({name: flat[name] for name in flat.keys() - known.keys()})

    @rank_zero_only
    def log_predictions(self, predictions: Predictions, data: OpenedData, step: int) -> None:
        """Store the confusion matrix, a table of samples and the samples' pictures as artifacts.

        Args:
            predictions: Predictions of the test.
            data: Data from which the pictures are read.
            step: Number of optimiser steps that trained the tested model; the artifacts do not
                use the number.
        """
        client, run = self.experiment, str(self.run_id)
        matrix = figures.confusion_matrix(predictions.confusion, predictions.classes)
        client.log_figure(run, matrix, "test/confusion_matrix.png")
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        columns = ["picture", "file", "label", "predicted", "confidence", *predictions.classes]
        writer.writerow(columns)
        for number, sample in enumerate(draw_samples(predictions, data), start=1):
            kind = "right" if sample.right else f"predicted-{sample.predicted}"
            name = f"{number:02d}-{sample.label}-{kind}.png"
            client.log_image(run, sample.picture, f"test/samples/{name}")
            facts = [sample.file, sample.label, sample.predicted, sample.confidence]
            writer.writerow([name, *facts, *sample.probabilities])
        client.log_text(run, table.getvalue(), "test/samples.csv")

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Store the checkpoint if ``log_model`` is ``all``; `finish` stores the best checkpoint.

        With ``log_model=True``, Lightning's own method would treat the last checkpoint as the best
        checkpoint.
        """
        if not self._stores_best:
            super().after_save_checkpoint(checkpoint_callback)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Close a run after an error; `finish` closes other runs, as a test may follow the fit."""
        if status != "success" and self._initialized:
            ended = status_of_failure(self.run_directory)
            killed = ended in ("interrupted", "terminated")
            self._close(ended, "KILLED" if killed else "FAILED")

    @rank_zero_only
    def finish(self) -> None:
        """Store the best checkpoint if ``log_model`` is true, and close a run without an error."""
        if not self._initialized:
            return
        card = read_run_card(self.run_directory)
        if self._stores_best and card and card.best_checkpoint and card.epochs is not None:
            best = self.run_directory / card.best_checkpoint
            self.experiment.log_artifact(str(self.run_id), str(best), "model")
        self._close("finished", "FINISHED")

    def _close(self, ended: str, state: str) -> None:
        client, run = self.experiment, str(self.run_id)
        for name in _RECORD:
            if (path := self.run_directory / name).is_file():
                client.log_artifact(run, str(path))
        client.set_tag(run, "status", ended)
        client.set_terminated(run, state)


def _flatten(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the parameters without nesting; slashes join the nested names."""
    flat: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(cast("dict[str, Any]", value), f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
