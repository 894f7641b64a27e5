"""Experiment tracking by TensorBoard."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from eurosat.data.opened import OpenedData
from eurosat.evaluation import figures
from eurosat.evaluation.predictions import Predictions
from eurosat.training.samples import draw_samples


class TensorBoardTracker(TensorBoardLogger):
    """Lightning's TensorBoard logger that also shows test samples and fills the HPARAMS tab.

    TensorBoard cannot store the status of a run; only ``run.json`` states the status.
    """

    def __init__(
        self,
        save_dir: str,
        name: str | None = "tensorboard",
        version: int | str | None = "",
        **settings: Any,
    ) -> None:
        """Choose the folder of the event files, ``save_dir/name/version``.

        Args:
            save_dir: Parent folder. The default is the run's folder.
            name: Name of a folder in ``save_dir``.
            version: Name of a folder in ``save_dir/name``. With an empty version, the event files
                lie in ``save_dir/name``.
            **settings: See `lightning.pytorch.loggers.TensorBoardLogger`.
        """
        super().__init__(save_dir, name=name, version=version, **settings)
        self.run_directory = Path(save_dir)
        self._settings: dict[str, Any] = {}
        self._measured: dict[str, float] = {}
        self._step: int | None = None

    @rank_zero_only
    def log_hyperparams(
        self,
        params: dict[str, Any] | Namespace,
        metrics: dict[str, Any] | None = None,
        step: int | None = None,
    ) -> None:
        """Show hyperparameters as text, and keep the hyperparameters for the HPARAMS tab.

        The HPARAMS tab accepts a single set of hyperparameters per run. The tracker therefore
        writes the tab at the end of the run, when all hyperparameters and the metrics of the test
        are known.
        """
        self._settings |= params if isinstance(params, dict) else vars(params)
        text = yaml.safe_dump(_plain(self._settings), sort_keys=False)
        # Markdown shows an indented block as code.
        indented = "".join(f"    {line}\n" for line in text.splitlines())
        self.experiment.add_text("hyperparameters", indented, len(self._settings))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars, and keep the last validation or test metrics for the HPARAMS tab."""
        for split in ("val/", "test/"):
            measured = {name: float(metrics[name]) for name in metrics if name.startswith(split)}
            if measured:
                self._measured, self._step = measured, step
        super().log_metrics(metrics, step)

    @rank_zero_only
    def log_predictions(self, predictions: Predictions, data: OpenedData, step: int) -> None:
        """Show the confusion matrix, a table of samples and the samples' pictures.

        Args:
            predictions: Predictions of the test.
            data: Data from which the pictures are read.
            step: Number of optimiser steps that trained the tested model.
        """
        matrix = figures.confusion_matrix(predictions.confusion, predictions.classes)
        self.experiment.add_figure("test/confusion_matrix", matrix, step)
        table = ["| file | label | predicted | confidence |", "| --- | --- | --- | --- |"]
        for number, sample in enumerate(draw_samples(predictions, data), start=1):
            tag = f"test_samples/{number:02d} {sample.caption}"
            self.experiment.add_image(tag, sample.picture, step, dataformats="HWC")
            table.append(
                f"| {sample.file} | {sample.label} | {sample.predicted} | {sample.confidence:.4f} |"
            )
        self.experiment.add_text("test/samples", "\n".join(table), step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the event files, and fill the HPARAMS tab after an error.

        `finish` fills the HPARAMS tab of a run without an error, as a test may follow the fit.
        """
        if status != "success":
            self._show_settings()
        super().finalize(status)

    @rank_zero_only
    def finish(self) -> None:
        """Fill the HPARAMS tab and close the event files."""
        self._show_settings()
        super().finalize("success")

    def _show_settings(self) -> None:
        if self._settings and self._measured:
            super().log_hyperparams(_plain(self._settings), self._measured, self._step)


def _plain(value: Any) -> Any:
    """Convert a value to the types that YAML can represent."""
    match value:
        case dict():
            return {str(name): _plain(entry) for name, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)
