"""What a run hands to its loggers beside metrics and hyperparameters."""

from typing import Protocol, runtime_checkable

from eurosat.data.datamodule import EuroSATDataModule
from eurosat.evaluation.predictions import Predictions


@runtime_checkable
class LogsPredictions(Protocol):
    """A logger that can show what a test found, patch by patch."""

    def log_predictions(self, predictions: Predictions, data: EuroSATDataModule, step: int) -> None:
        """Show the confusion matrix and sample pictures of a test.

        Args:
            predictions: What the test found.
            data: Where the pictures come from.
            step: Optimiser steps of the model tested.
        """


@runtime_checkable
class FinishesRun(Protocol):
    """A logger that must hear when its run is over, with whatever test followed the fit."""

    def finish(self) -> None:
        """Close the logger's run, which ended well."""
