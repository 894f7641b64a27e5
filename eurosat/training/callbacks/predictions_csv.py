"""Predictions of image files, as CSV."""

import logging
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from eurosat.files import write_csv
from eurosat.training.callbacks.gather import gather

_log = logging.getLogger(__name__)


class PredictionsCSV(Callback):
    """Options of the CSV file that 'predict' writes: one row per image.

    The file is written atomically, after the last prediction.
    """

    def __init__(self, path: str = "predictions.csv") -> None:
        """Store the path.

        Args:
            path: Path of the CSV file that `eurosat predict` writes; a relative path starts at the
                current folder. The
                predictions of `eurosat test` are in the run folder.
        """
        self.path = Path(path)
        self._rows: list[tuple[str, list[float], bool]] = []

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Discard earlier predictions."""
        self._rows = []

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
        self._rows += zip(outputs["file"], probabilities, batch["resized"].tolist(), strict=True)

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Write the file."""
        rows = gather(self._rows)
        if not trainer.is_global_zero:
            return
        classes = pl_module.classes
        write_csv(
            self.path,
            ["file", "predicted", "confidence", *classes],
            (
                [file, classes[values.index(max(values))], max(values), *values]
                for file, values, _ in sorted(rows)
            ),
        )
        resized = sorted(file for file, _, other_size in rows if other_size)
        if resized:
            size = pl_module.patch_size
            _log.warning(
                "%d of %d images had another size than the model's patches of %dx%d pixels and "
                "were resized, such as %s",
                *(len(resized), len(rows), size, size, resized[0]),
            )
        print(f"{len(rows)} predictions written to {self.path}")
