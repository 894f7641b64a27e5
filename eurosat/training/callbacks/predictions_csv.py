"""Predictions of image files, as CSV."""

import logging
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from eurosat.errors import SettingsError, UnreadImagesError
from eurosat.files import check_writable_folder, write_csv
from eurosat.training.callbacks.gather import gather

_log = logging.getLogger(__name__)


class PredictionsCSV(Callback):
    """Options of the CSV file that 'predict' writes: one row per image.

    The file is written atomically, after the last prediction. The row of an image that cannot be
    read has the reason in the column ``error`` and no class.
    """

    def __init__(self, path: str = "predictions.csv") -> None:
        """Store the path.

        Args:
            path: Path of the CSV file that `eurosat predict` writes; a relative path starts at the
                current folder. The
                predictions of `eurosat test` are in the run folder.
        """
        self.path = Path(path)
        self._rows: list[tuple[str, list[float], bool, str]] = []

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Discard earlier predictions, and check that the file can be written.

        Raises:
            SettingsError: The file's folder cannot be written.
        """
        self._rows = []
        if trainer.is_global_zero:
            check_writable_folder(self.path.parent, SettingsError, "--predictions.path")

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch's probabilities."""
        probabilities = outputs["probabilities"].float().cpu().tolist()
        resized, errors = batch["resized"].tolist(), batch["error"]
        self._rows += zip(outputs["file"], probabilities, resized, errors, strict=True)

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Write the file.

        Raises:
            UnreadImagesError: Some images could not be read.
        """
        rows = sorted(gather(self._rows))
        if not trainer.is_global_zero:
            return
        classes = pl_module.classes
        write_csv(
            self.path,
            ["file", "predicted", "confidence", *classes, "error"],
            (
                [file, *[""] * (2 + len(classes)), error]
                if error
                else [file, classes[values.index(max(values))], max(values), *values, ""]
                for file, values, _, error in rows
            ),
        )
        resized = [file for file, _, other_size, _ in rows if other_size]
        if resized:
            size = pl_module.patch_size
            _log.warning(
                "%d of %d images had another size than the model's patches of %dx%d pixels and "
                "were resized, such as %s",
                *(len(resized), len(rows), size, size, resized[0]),
            )
        errors = [error for *_, error in rows if error]
        print(f"{len(rows) - len(errors)} predictions written to {self.path}")
        if errors:
            raise UnreadImagesError(
                f"{len(errors)} of {len(rows)} images cannot be read, and the column error of "
                f"{self.path} has the reason of each; the first reason: {errors[0]}"
            )
