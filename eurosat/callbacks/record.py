"""The run card: one file that says what was run, on what, with what, and how fast."""

import importlib.metadata
import logging
import os
import platform
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

import eurosat
from eurosat.callbacks import figures
from eurosat.callbacks.report import write_report
from eurosat.data.datamodule import EuroSATDataModule
from eurosat.files import write_csv, write_json

_LOGGERS = ("eurosat", "lightning.pytorch", "lightning.fabric")
_log = logging.getLogger(__name__)
_PACKAGES = (
    *("torch", "torchvision", "lightning", "timm", "torchmetrics", "albumentations"),
    *("datasets", "jsonargparse", "numpy", "opencv-python-headless", "pillow", "rasterio"),
)


class RunRecord(Callback):
    """Writes ``run.json``, ``run.log``, the learning curves and ``report.html``."""

    def __init__(self, run_directory: Path, experiment: str, seed: int | None) -> None:
        """Start the record.

        Args:
            run_directory: The run folder.
            experiment: Name of the experiment.
            seed: The run's seed.
        """
        self.run_directory = run_directory
        self._card: dict[str, Any] = {
            "experiment": experiment,
            "status": "running",
            "command": shlex.join(["eurosat", *sys.argv[1:]]),
            "seed": seed,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._start = time.perf_counter()
        self._epoch_start = 0.0
        self._train_seconds = 0.0
        self._train_images = 0
        self._log_handler: logging.Handler | None = None

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Open the log and write down the surroundings."""
        if not self._writes(trainer) or self._log_handler is not None:
            return
        self.run_directory.mkdir(parents=True, exist_ok=True)
        self._log_handler = logging.FileHandler(self.run_directory / "run.log")
        self._log_handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        )
        logging.getLogger("eurosat").setLevel(logging.INFO)
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self._log_handler)
        _log.info("%s", self._card["command"])
        self._card |= {
            "eurosat": eurosat.__version__,
            "git": git_state(),
            "packages": {name: _version(name) for name in _PACKAGES},
            "hardware": hardware(trainer),
            "model": {
                "backbone": pl_module.hparams["backbone"],
                "parameters": sum(weight.numel() for weight in pl_module.backbone.parameters()),
            },
        }

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start the clock of an epoch."""
        self._epoch_start = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the patches; stop the clock before the validation that follows the last batch."""
        self._train_images += len(batch["image"]) * trainer.world_size
        if batch_idx + 1 == trainer.num_training_batches:
            self._train_seconds += time.perf_counter() - self._epoch_start

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Log the metrics of an epoch."""
        if self._log_handler is not None and not trainer.sanity_checking:
            _log.info("epoch %d: %s", trainer.current_epoch, _readable(trainer, "val/"))

    def on_test_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Log the metrics of the test."""
        if self._log_handler is not None:
            _log.info("test: %s", _readable(trainer, "test/"))

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException
    ) -> None:
        """Say in the record how the run ended."""
        interrupted = isinstance(exception, KeyboardInterrupt)
        self._card["status"] = "interrupted" if interrupted else f"failed: {exception!r}"
        _log.error("%s", self._card["status"])
        if self._writes(trainer):
            self._write(trainer)

    def teardown(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Write the record; a test that follows a fit completes it."""
        if self._writes(trainer) and self._log_handler is not None:
            if self._card["status"] == "running":
                self._card["status"] = "finished"
            self._write(trainer)
            self._close()

    def _close(self) -> None:
        """Close the log."""
        if self._log_handler is not None:
            for name in _LOGGERS:
                logging.getLogger(name).removeHandler(self._log_handler)
            self._log_handler.close()
            self._log_handler = None

    @staticmethod
    def _writes(trainer: lightning.Trainer) -> bool:
        return trainer.is_global_zero and not cast(Any, trainer).fast_dev_run

    def _write(self, trainer: lightning.Trainer) -> None:
        data = cast(EuroSATDataModule, cast(Any, trainer).datamodule)
        card = dict(self._card)
        card["wall_seconds"] = round(time.perf_counter() - self._start, 2)
        if self._train_seconds:
            card["train_seconds"] = round(self._train_seconds, 2)
            card["images_per_second"] = round(self._train_images / self._train_seconds, 1)
            card["epochs"] = trainer.current_epoch
        checkpoint = cast(ModelCheckpoint, trainer.checkpoint_callback)
        if checkpoint.best_model_path:
            card["best_checkpoint"] = os.path.relpath(
                checkpoint.best_model_path, self.run_directory
            )
        if data.store is not None and data.split is not None:
            store, split = data.store.card, data.split
            card["synthetic"] = store.synthetic
            card["data"] = {
                "source": store.source,
                "bands": [channel.name for channel in data.channels],
                "classes": list(store.classes),
                "images": store.images,
                "fingerprint": store.fingerprint,
                "verified": store.verified,
            }
            card["split"] = {
                "kind": split.kind,
                "seed": data.split_seed if split.kind == "stratified" else None,
                "fingerprint": split.fingerprint,
                "train": len(split.train),
                "val": len(split.val),
                "test": len(split.test),
            }
        write_json(self.run_directory / "run.json", card)
        curves = self.run_directory / "metrics.csv"
        if curves.is_file() and self._train_images:
            note = "synthetic data" if card.get("synthetic") else ""
            rows = figures.read_metrics(curves)
            figure = figures.learning_curves(
                rows,
                monitor=checkpoint.monitor or "",
                mode="min" if checkpoint.mode == "min" else "max",
                note=note,
            )
            folder = self.run_directory / "figures"
            figures.save_figure(figure, folder / "learning_curves.png")
            write_csv(folder / "learning_curves.csv", *figures.epoch_table(rows))
        write_report(self.run_directory)


def _readable(trainer: lightning.Trainer, prefix: str) -> str:
    metrics = {k: v for k, v in trainer.callback_metrics.items() if k.startswith(prefix)}
    return ", ".join(f"{name} {float(value):.4f}" for name, value in metrics.items())


def git_state() -> dict[str, Any] | None:
    """Revision and dirtiness of the checkout this package runs from; None outside of one."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(dirty)}
    except (OSError, subprocess.CalledProcessError):
        return None


def hardware(trainer: lightning.Trainer) -> dict[str, Any]:
    """The machine and the devices the trainer uses."""
    cuda = trainer.strategy.root_device.type == "cuda"
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "accelerator": torch.cuda.get_device_name() if cuda else trainer.strategy.root_device.type,
        "devices": trainer.world_size,
        "precision": str(trainer.precision),
    }


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError):  # not a POSIX system
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
