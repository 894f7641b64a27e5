"""Draw the figures of a run from the files in the run's folder."""

from pathlib import Path

import numpy as np

from eurosat.evaluation import figures
from eurosat.evaluation.mistakes import MISTAKES_FILE, read_mistakes
from eurosat.evaluation.predictions import count_confusion
from eurosat.evaluation.run_files import read_predictions, reading
from eurosat.evaluation.tables import read_rows
from eurosat.run_card import RunCard, read_run_card


def draw_run_figures(run_directory: Path, output: Path) -> None:
    """Draw learning curves, confusion matrix, reliability diagram and most confident mistakes.

    If a file is missing, only the figures that need the file are left out.

    Args:
        run_directory: The run's folder, with any of ``run.json``, ``metrics.csv``,
            ``predictions.csv`` and ``mistakes.npz``.
        output: Folder for the PNG files, which is created if missing.

    Raises:
        ReportError: A file is damaged.
        RunCardError: ``run.json`` is damaged, or of a newer layout.
    """
    card = read_run_card(run_directory) or RunCard()
    predictions = read_predictions(run_directory / "predictions.csv")
    note = "synthetic data" if card.synthetic else ""
    curves, mistakes = run_directory / "metrics.csv", run_directory / MISTAKES_FILE
    if curves.is_file() and card.train_seconds:  # a run that trains nothing has no curves
        with reading(curves):
            figure = figures.learning_curves(
                read_rows(curves), monitor=card.monitor or "", mode=card.mode or "max", note=note
            )
        figures.save_figure(figure, output / "learning_curves.png")
    if predictions:
        with reading(run_directory / "predictions.csv"):
            # The columns after file, label, predicted and confidence are the classes.
            classes = list(predictions[0])[4:]
            labels, predicted = (
                np.array([classes.index(row[column]) for row in predictions])
                for column in ("label", "predicted")
            )
            confusion = count_confusion(labels, predicted, len(classes))
            confidence = np.array([float(row["confidence"]) for row in predictions])
        figure = figures.confusion_matrix(confusion, classes, note=note)
        figures.save_figure(figure, output / "confusion_matrix.png")
        figure = figures.reliability_diagram(confidence, labels == predicted, note=note)
        figures.save_figure(figure, output / "reliability_diagram.png")
    if mistakes.is_file():
        with reading(mistakes):
            shown = read_mistakes(run_directory)
        figure = figures.confident_mistakes(
            shown.pictures,
            shown.files.tolist(),
            shown.labels.tolist(),
            shown.predicted.tolist(),
            shown.confidence,
            note=note,
        )
        figures.save_figure(figure, output / "confident_mistakes.png")
