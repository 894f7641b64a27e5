"""The record of a run: its run card, its log, its learning curves and its report."""

import logging
import os
import platform
import shlex
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import lightning
from lightning.pytorch.callbacks import Callback

import eurosat
from eurosat.data.datamodule import EuroSATDataModule
from eurosat.data.opened import OpenedData
from eurosat.errors import CheckpointError, DataSourceError
from eurosat.evaluation.tables import epoch_table, read_rows
from eurosat.files import write_csv
from eurosat.hardware import hardware
from eurosat.logs import FAILURE, Logs
from eurosat.provenance import git_state, package_version
from eurosat.run_card import RUN_CARD, RunCard, RunData, RunModel, RunPart, RunSplit, read_run_card
from eurosat.training.callbacks.checkpoints import best_checkpoint
from eurosat.training.callbacks.events import log_data, log_metrics, log_resume
from eurosat.training.callbacks.status import agree_on_status, status_after

_log = logging.getLogger(__name__)
_PACKAGES = (
    *("torch", "torchvision", "lightning", "timm", "torchmetrics", "albumentations"),
    *("datasets", "jsonargparse", "numpy", "opencv-python-headless", "pillow", "rasterio"),
)


class RunRecord(Callback):
    """Writes ``run.json``, ``run.jsonl``, ``learning_curves.csv`` and the report of a run."""

    def __init__(
        self,
        run_directory: Path,
        experiment: str,
        seed: int | None,
        logs: Logs,
        *,
        report: bool = True,
        checkpoint: str | None = None,
    ) -> None:
        """Start the record.

        Args:
            run_directory: The run folder.
            experiment: Name of the experiment.
            seed: The run's seed.
            logs: Logs of the command, which are also written to ``run.jsonl``.
            report: Whether to draw the figures and ``report.html`` when the run ends.
            checkpoint: Checkpoint from which this process continues or which it evaluates.
        """
        self._logs = logs
        self._checkpoint = checkpoint
        self._report = report
        self.run_directory = run_directory
        self._card = RunCard(
            experiment=experiment,
            status="running",
            command=shlex.join(["eurosat", *sys.argv[1:]]),
            seed=seed,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._earlier: tuple[RunPart, ...] = ()
        self._part = RunPart(started=self._card.started, status="running", host=platform.node())
        self._opened = False
        self._start = time.perf_counter()
        self._fitted = False
        self._clock = 0.0
        self._train_seconds = 0.0
        self._train_images = 0
        self._validated: dict[str, float] = {}
        self._said_where = False

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Open the log and record software, hardware, data and model before the stage starts."""
        # Each process that Lightning did not start has named a folder of its own. All processes use
        # the folder of the first process.
        self.run_directory = trainer.strategy.broadcast(self.run_directory)
        self._check_same_checkpoint(trainer)
        self._card = replace(self._card, status="running")  # a test may follow a finished fit
        first = not self._opened
        if first:
            self._open(trainer, pl_module)
        if not self._writes(trainer):
            return
        card = self._describe(trainer)
        card.write(self.run_directory)  # the run card remains if the process is killed
        if first:
            known = {name: value for name, value in card.to_json().items() if value is not None}
            del known["status"], known["parts"]  # both change
            for logger in trainer.loggers[1:]:  # the first writes metrics.csv, beside run.json
                logger.log_hyperparams({"record": known})

    def _check_same_checkpoint(self, trainer: lightning.Trainer) -> None:
        """Check that all processes of a run begin at the same state.

        Raises:
            CheckpointError: The processes do not see the same files.
        """
        first = trainer.strategy.broadcast(self._checkpoint)
        if trainer.strategy.reduce_boolean_decision(first == self._checkpoint, all=True):
            return
        raise CheckpointError(
            f"the first process begins with the checkpoint {first}, and process "
            f"{trainer.global_rank} with {self._checkpoint}: put the run's folder on a file system "
            "that all machines share"
        )

    def _open(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        opened = cast(EuroSATDataModule, cast(Any, trainer).datamodule).opened
        earlier = read_run_card(self.run_directory)
        if earlier is not None:
            self._continue(earlier, opened)
        self._logs.write_to(self.run_directory / "run.jsonl")
        _log.info("%s", self._card.command, extra={"event": "command"})
        if earlier is not None:
            log_resume(self._earlier, self._checkpoint)
        log_data(opened)
        backbone = str(pl_module.hparams["backbone"])
        parameters = sum(weight.numel() for weight in pl_module.backbone.parameters())
        model = RunModel(backbone, parameters)
        _log.info(
            "model: %s with %s parameters",
            backbone,
            f"{parameters:,}",
            extra={"event": "model"} | asdict(model),
        )
        git = git_state()
        self._part = replace(self._part, git=git)
        self._card = replace(
            self._card,
            eurosat=eurosat.__version__,
            git=git,
            packages={name: package_version(name) for name in _PACKAGES},
            hardware=hardware(trainer),
            model=model,
        )
        self._opened = True

    def _continue(self, earlier: RunCard, opened: OpenedData) -> None:
        """Take over the parts of a run that was stopped.

        Raises:
            DataSourceError: The images or their split differ from those of the earlier parts.
        """
        data, split = earlier.data, earlier.split
        changed = (data and data.fingerprint != opened.store.card.fingerprint) or (
            split and split.fingerprint != opened.splits.fingerprint
        )
        if changed:
            raise DataSourceError(
                f"the images or their split have changed since the run in {self.run_directory} "
                "began: restore the data, or choose another --run_directory"
            )
        self._earlier = _ended_parts(earlier)
        self._card = replace(self._card, started=earlier.started)

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Note that the run fits a model, even if a resumed fit has no epoch left to train."""
        self._fitted = True

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start the clock, because a fit resumed within an epoch skips ``on_train_epoch_start``."""
        self._clock = time.perf_counter()
        self._part = replace(self._part, first_epoch=trainer.current_epoch)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Restart the clock, so that the time between two epochs is not counted as training."""
        self._clock = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the patches and the time per batch, so that unfinished epochs are counted too."""
        self._train_images += len(batch["image"]) * trainer.world_size
        now = time.perf_counter()
        self._train_seconds += now - self._clock
        self._clock = now

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Keep the validation metrics for the epoch's end; log the metrics if no fit runs."""
        self._clock = time.perf_counter()  # validation is not counted as training time
        if trainer.sanity_checking:
            return
        self._validated = _metrics(trainer, "val/")
        if trainer.state.fn != "fit":
            log_metrics("validation", self._validated)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Log the metrics of an epoch."""
        # Every process must run this line, because reading the training metrics gathers the metrics
        # of all processes.
        metrics = _metrics(trainer, "train/") | self._validated
        self._validated = {}
        log_metrics("epoch", metrics, epoch=trainer.current_epoch)
        if self._writes(trainer):  # the run card describes the part if the process is killed
            self._describe(trainer, epochs=trainer.current_epoch + 1).write(self.run_directory)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Log that a checkpoint is saved."""
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        _log.debug(
            "saving a checkpoint of epoch %(epoch)d, step %(step)d",
            place,
            extra={"event": "checkpoint", **place},
        )

    def on_test_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Log the metrics of the test."""
        log_metrics("test", _metrics(trainer, "test/"))

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException
    ) -> None:
        """Record the status of a run that ended with an exception."""
        status = status_after(exception)
        if self.run_directory.is_dir():  # before setup, a process may lack a folder
            self._logs.write_to(self.run_directory / "run.jsonl")
        _log.error("%s", status, exc_info=exception, extra={"event": FAILURE})
        if trainer.world_size > 1 and self._opened:
            status = agree_on_status(self.run_directory, status)
        self._card = replace(self._card, status=status)
        if self._writes(trainer) and not self._would_lose_parts():
            self._write(trainer)
            self._say_where()

    def teardown(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Write the record; a test that follows a fit writes the complete record."""
        if self._writes(trainer) and not self._would_lose_parts():
            if self._card.status == "running":
                self._card = replace(self._card, status="finished")
            self._write(trainer)
            self._say_where()

    def _would_lose_parts(self) -> bool:
        """Whether the folder describes a run that this process has not begun to continue."""
        return not self._opened and (self.run_directory / RUN_CARD).is_file()

    @staticmethod
    def _writes(trainer: lightning.Trainer) -> bool:
        return trainer.is_global_zero and not cast(Any, trainer).fast_dev_run

    def _describe(self, trainer: lightning.Trainer, epochs: int | None = None) -> RunCard:
        """Return the run card with all facts that are known so far."""
        if self._fitted:
            epochs = trainer.current_epoch if epochs is None else epochs
        part = replace(
            self._part,
            status=self._card.status,
            epochs=epochs,
            wall_seconds=round(time.perf_counter() - self._start, 2),
            train_seconds=round(self._train_seconds, 2),
            train_images=self._train_images,
        )
        parts = (*self._earlier, part)
        train_seconds = sum(part.train_seconds for part in parts)
        # Without a data module, the other processes of the run could not be started.
        data = cast(EuroSATDataModule | None, cast(Any, trainer).datamodule)
        checkpoint = best_checkpoint(trainer)
        folder, best = self.run_directory, checkpoint.best_model_path
        card = replace(
            self._card,
            parts=parts,
            epochs=epochs,
            wall_seconds=round(sum(part.wall_seconds for part in parts), 2),
            monitor=checkpoint.monitor,
            mode="min" if checkpoint.mode == "min" else "max",
            best_checkpoint=Path(os.path.relpath(best, folder)).as_posix() if best else None,
        )
        if train_seconds:
            images = sum(part.train_images for part in parts)
            card = replace(
                card,
                train_seconds=round(train_seconds, 2),
                images_per_second=round(images / train_seconds, 1),
            )
        if data is not None and data.is_open:
            store, splits = data.opened.store.card, data.opened.splits
            card = replace(
                card,
                synthetic=store.synthetic,
                data=RunData(
                    source=store.source,
                    bands=tuple(channel.name for channel in data.channels),
                    classes=tuple(store.classes),
                    images=store.images,
                    fingerprint=store.fingerprint,
                    verified=store.verified,
                ),
                split=RunSplit(
                    kind=splits.kind,
                    fingerprint=splits.fingerprint,
                    train=len(splits.train),
                    val=len(splits.val),
                    test=len(splits.test),
                    seed=data.split_seed if splits.kind == "stratified" else None,
                    fractions=tuple(data.split_fractions)
                    if splits.kind in ("stratified", "longitude")
                    else None,
                ),
            )
        return card

    def _write(self, trainer: lightning.Trainer) -> None:
        self._describe(trainer).write(self.run_directory)
        curves = self.run_directory / "metrics.csv"
        if curves.is_file() and self._fitted:
            table = epoch_table(read_rows(curves))
            write_csv(self.run_directory / "learning_curves.csv", *table)
        if self._report:
            # The import is local, so that a run without a report does not need matplotlib.
            from eurosat.evaluation.run_report import write_report

            write_report(self.run_directory)

    def _say_where(self) -> None:
        if self._said_where or not self._report:
            return
        self._said_where = True
        report = str(self.run_directory / "report.html")
        _log.info("report in %s", report, extra={"event": "report", "path": report})


def _metrics(trainer: lightning.Trainer, prefix: str) -> dict[str, float]:
    metrics = trainer.callback_metrics
    return {name: float(metrics[name]) for name in metrics if name.startswith(prefix)}


def _ended_parts(card: RunCard) -> tuple[RunPart, ...]:
    """Return the parts of a run that was stopped; its last part may have left no end."""
    parts = card.parts or (RunPart(started=card.started, status=card.status, epochs=card.epochs),)
    *before, last = parts
    if last.status == "running":  # The part has left no end, or only another process has.
        last = replace(last, status="killed" if card.status == "running" else card.status)
    return (*before, last)
