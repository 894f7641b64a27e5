"""What a run hands to its loggers beside metrics and hyperparameters."""

from pathlib import Path
from typing import Protocol, runtime_checkable

from eurosat.data.opened import OpenedData
from eurosat.evaluation.predictions import Predictions
from eurosat.run_card import read_run_card


@runtime_checkable
class LogsPredictions(Protocol):
    """A logger that can show what a test found, patch by patch."""

    def log_predictions(self, predictions: Predictions, data: OpenedData, step: int) -> None:
        """Show the confusion matrix and sample pictures of a test.

        Args:
            predictions: What the test found.
            data: Where the pictures come from.
            step: Optimiser steps of the model tested.
        """


@runtime_checkable
class FinishesRun(Protocol):
    """A logger that must hear when its run is over, with whatever test followed the fit."""

    run_directory: Path
    """The run's folder, which the command line sets."""

    def finish(self) -> None:
        """Close the logger's run, which ended well."""


def status_of_failure(run_directory: Path) -> str:
    """Read how a run that did not end well ended.

    Args:
        run_directory: The run's folder; its record is written before a logger hears of the end.

    Returns:
        The status in ``run.json``; ``failed`` if the failure came before or after the record.
    """
    card = read_run_card(run_directory)
    ended = card.status if card else "failed"
    return "failed" if ended in ("running", "finished") else ended
