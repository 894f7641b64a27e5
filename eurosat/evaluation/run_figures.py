"""The figures of a run, drawn from the files in its folder."""

from pathlib import Path

import numpy as np

from eurosat.evaluation import figures
from eurosat.evaluation.mistakes import MISTAKES_FILE, read_mistakes
from eurosat.evaluation.run_files import read_predictions, told_if_damaged
from eurosat.evaluation.tables import read_rows
from eurosat.run_card import RunCard, read_run_card


def draw_run_figures(run_directory: Path, output: Path) -> None:
    """Draw what the files of a run show: learning curves, confusion, reliability, mistakes.

    A missing file costs the figures that need it, nothing else.

    Args:
        run_directory: The run's folder, with any of ``run.json``, ``metrics.csv``,
            ``predictions.csv`` and ``mistakes.npz``.
        output: Folder for the PNG files; made if it is missing.

    Raises:
        ReportError: A file is damaged.
        RunCardError: ``run.json`` is damaged, or of a newer layout.
    """
    card = read_run_card(run_directory) or RunCard()
    predictions = read_predictions(run_directory / "predictions.csv")
    note = "synthetic data" if card.synthetic else ""
    curves, mistakes = run_directory / "metrics.csv", run_directory / MISTAKES_FILE
    if curves.is_file() and card.train_seconds:  # a run that only measures has no curve
        with told_if_damaged(curves):
            figure = figures.learning_curves(
                read_rows(curves), monitor=card.monitor or "", mode=card.mode or "max", note=note
            )
        figures.save_figure(figure, output / "learning_curves.png")
    if predictions:
        with told_if_damaged(run_directory / "predictions.csv"):
            classes = list(predictions[0])[4:]  # after file, label, predicted and confidence
            confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
            for row in predictions:
                confusion[classes.index(row["label"]), classes.index(row["predicted"])] += 1
            confidence = np.array([float(row["confidence"]) for row in predictions])
            right = np.array([row["label"] == row["predicted"] for row in predictions])
        figure = figures.confusion_matrix(confusion, classes, note=note)
        figures.save_figure(figure, output / "confusion_matrix.png")
        figure = figures.reliability_diagram(confidence, right, note=note)
        figures.save_figure(figure, output / "reliability_diagram.png")
    if mistakes.is_file():
        with told_if_damaged(mistakes):
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
