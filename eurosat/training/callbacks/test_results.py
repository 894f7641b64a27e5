"""The results of a test: metrics.json, predictions.csv and mistakes.npz."""

from pathlib import Path
from typing import Any, cast

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback

from eurosat.data.datamodule import EuroSATDataModule
from eurosat.data.opened import OpenedData
from eurosat.evaluation.mistakes import Mistakes, mistaken_rows
from eurosat.evaluation.predictions import Predictions
from eurosat.files import write_csv, write_json
from eurosat.metrics import metrics
from eurosat.models.classifier import EuroSATClassifier
from eurosat.training.callbacks.gather import gather
from eurosat.training.callbacks.guards import check_measured
from eurosat.training.loggers import LogsPredictions


class TestResults(Callback):
    """Writes metrics, predictions and mistakes of a test into the run folder."""

    __test__ = False  # pytest would collect the class because of its name

    def __init__(self, run_directory: Path) -> None:
        """Choose the run folder."""
        self.run_directory = run_directory
        self._rows: list[tuple[int, int, list[float]]] = []

    def on_test_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Discard the predictions of an earlier test."""
        self._rows = []

    def on_test_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch's predictions."""
        self._rows += zip(
            outputs["index"].tolist(),
            outputs["label"].tolist(),
            outputs["probabilities"].cpu().tolist(),
            strict=True,
        )

    def on_test_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Write metrics, predictions and the most confident mistakes.

        Raises:
            DivergenceError: The test loss is NaN or infinite.
        """
        rows = sorted(gather(self._rows))
        module = cast(EuroSATClassifier, pl_module)
        # Every process must run this line, because compute() synchronises all processes.
        values = cast(Any, module.evaluation_metrics["test_metrics"]).compute()
        check_measured("test", float(values["test/loss"]))
        if not trainer.is_global_zero or cast(Any, trainer).fast_dev_run:
            return
        # MetricCollection sorts its metrics by name; metrics.json keeps the order of metrics().
        names = [metric.name for metric in metrics() if f"test/{metric.name}" in values]
        measured = {name: float(values[f"test/{name}"]) for name in names}
        datamodule = cast(EuroSATDataModule, cast(Any, trainer).datamodule)
        data = datamodule.opened
        predictions = Predictions(
            classes=module.classes,
            files=[data.store.names[row[0]] for row in rows],
            indices=np.array([row[0] for row in rows]),
            labels=np.array([row[1] for row in rows]),
            probabilities=np.array([row[2] for row in rows]),
        )
        write_json(
            self.run_directory / "metrics.json",
            measured
            | {"per_class": predictions.per_class_accuracy}
            | ({"other_data": True} if datamodule.other_data else {}),
        )
        self._write_predictions(predictions)
        self._write_mistakes(predictions, data)
        for logger in trainer.loggers:
            if isinstance(logger, LogsPredictions):
                logger.log_predictions(predictions, data, trainer.global_step)

    def _write_predictions(self, predictions: Predictions) -> None:
        classes = predictions.classes
        write_csv(
            self.run_directory / "predictions.csv",
            ["file", "label", "predicted", "confidence", *classes],
            (
                [file, classes[label], classes[guess], values[guess], *values]
                for file, label, guess, values in zip(
                    predictions.files,
                    predictions.labels,
                    predictions.predicted,
                    predictions.probabilities.tolist(),
                    strict=True,
                )
            ),
        )

    def _write_mistakes(self, predictions: Predictions, data: OpenedData) -> None:
        rows = mistaken_rows(predictions)
        names = np.array(predictions.classes)
        Mistakes(
            pictures=data.rgb_patches(predictions.indices[rows].tolist()),
            files=np.array([predictions.files[row] for row in rows], dtype=np.str_),
            labels=names[predictions.labels[rows]],
            predicted=names[predictions.predicted[rows]],
            confidence=predictions.confidence[rows],
        ).write(self.run_directory)
