"""Protocols of loggers that show the predictions of a test or close their run."""

from pathlib import Path
from typing import Protocol, runtime_checkable

from eurosat.data.opened import OpenedData
from eurosat.evaluation.predictions import Predictions
from eurosat.run_card import read_run_card


@runtime_checkable
class LogsPredictions(Protocol):
    """A logger that can show the predictions of a test."""

    def log_predictions(self, predictions: Predictions, data: OpenedData, step: int) -> None:
        """Show the confusion matrix and sample pictures of a test.

        Args:
            predictions: Predictions of the test.
            data: Data from which the pictures are read.
            step: Number of optimiser steps that trained the tested model.
        """


@runtime_checkable
class FinishesRun(Protocol):
    """A logger that closes its run after the fit and the test that may follow the fit."""

    run_directory: Path
    """The run's folder; the command line sets this attribute."""

    def finish(self) -> None:
        """Close the logger's run after the run ended without an error."""


def status_of_failure(run_directory: Path) -> str:
    """Read the status of a run that ended with an error, Ctrl-C or SIGTERM.

    Args:
        run_directory: The run's folder. `RunRecord` writes ``run.json`` before Lightning finalizes
            the loggers.

    Returns:
        The status in ``run.json``, or ``failed`` where ``run.json`` is absent or its status is
        ``running`` or ``finished``, because the error preceded or followed the record.
    """
    card = read_run_card(run_directory)
    ended = card.status if card else "failed"
    return "failed" if ended in ("running", "finished") else ended
