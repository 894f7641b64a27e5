"""The results of a test: metrics.json, predictions.csv and figures."""

from pathlib import Path
from typing import Any, cast

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback

from eurosat.callbacks import figures
from eurosat.callbacks.files import gather
from eurosat.data.datamodule import EuroSATDataModule
from eurosat.files import write_csv, write_json
from eurosat.models.classifier import EuroSATClassifier


class TestResults(Callback):
    """Writes what a test found into the run folder."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, run_directory: Path) -> None:
        """Choose the run folder."""
        self.run_directory = run_directory
        self._rows: list[tuple[int, int, list[float]]] = []

    def on_test_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Forget an earlier test."""
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
        """Write metrics, predictions and figures."""
        rows = sorted(gather(self._rows))
        module = cast(EuroSATClassifier, pl_module)
        # Computing synchronises over all processes, so every one of them must take part.
        confusion = module.test_confusion.compute().cpu().numpy()
        module.test_confusion.reset()
        values = cast(Any, module.evaluation_metrics["test_metrics"]).compute()
        loss = cast(Any, module.evaluation_losses["test_loss"]).compute()
        if not trainer.is_global_zero or cast(Any, trainer).fast_dev_run:
            return
        metrics = {name.removeprefix("test/"): float(value) for name, value in values.items()}
        metrics["loss"] = float(loss)
        write_json(
            self.run_directory / "metrics.json",
            {key: metrics[key] for key in ("accuracy", "accuracy_macro", "f1_macro", "ece", "loss")}
            | {"per_class": per_class_accuracy(confusion, module.classes)},
        )
        self._write_predictions(rows, module.classes, cast(Any, trainer).datamodule, confusion)

    def _write_predictions(
        self,
        rows: list[tuple[int, int, list[float]]],
        classes: tuple[str, ...],
        data: EuroSATDataModule,
        confusion: np.ndarray[Any, Any],
    ) -> None:
        assert data.store is not None
        indices = np.array([row[0] for row in rows])
        labels = np.array([row[1] for row in rows])
        probabilities = np.array([row[2] for row in rows])
        predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
        files = [data.store.names[index] for index in indices]
        write_csv(
            self.run_directory / "predictions.csv",
            ["file", "label", "predicted", "confidence", *classes],
            (
                [file, classes[label], classes[guess], values[guess], *values]
                for file, label, guess, values in zip(
                    files, labels, predicted, probabilities.tolist(), strict=True
                )
            ),
        )
        note = "synthetic data" if data.store.card.synthetic else ""
        folder = self.run_directory / "figures"
        wrong = np.flatnonzero(predicted != labels)
        worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:20]
        drawn = {
            "confusion_matrix": figures.confusion_matrix(confusion, classes, note=note),
            "reliability_diagram": figures.reliability_diagram(
                confidence, predicted == labels, note=note
            ),
            "confident_mistakes": figures.confident_mistakes(
                data.rgb_patches(indices[worst].tolist()),
                [files[i] for i in worst],
                [classes[labels[i]] for i in worst],
                [classes[predicted[i]] for i in worst],
                confidence[worst],
                note=note,
            ),
        }
        for name, figure in drawn.items():
            figures.save_figure(figure, folder / f"{name}.png")


def per_class_accuracy(
    confusion: np.ndarray[Any, Any], classes: tuple[str, ...]
) -> dict[str, float | None]:
    """Share of each class's patches that were recognised.

    Args:
        confusion: int, shape (C, C), rows are true classes.
        classes: Class names.

    Returns:
        Accuracy by class name; None for a class without patches.
    """
    totals = confusion.sum(axis=1)
    return {
        name: float(confusion[i, i] / totals[i]) if totals[i] else None
        for i, name in enumerate(classes)
    }
