"""The best and the last checkpoint of a run, across resumed attempts."""

import logging
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, Literal, cast

import lightning
from jsonargparse.typing import NonNegativeInt
from lightning.pytorch.callbacks import ModelCheckpoint

from eurosat.errors import MonitorError, SettingsError
from eurosat.files import atomic_write
from eurosat.metrics import best_value

_log = logging.getLogger(__name__)


class ResumableCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint that keeps its scores across run folders.

    A resumed run has a new folder, and Lightning discards the scores of another folder, so that the
    first epoch after a resume would count as the best. This callback copies the checkpoints of the
    earlier folder into the new folder with their scores. The earlier folder stays unchanged.
    """

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Find the folder; the run's own checkpoints are in the folder if the run is resumed."""
        with warnings.catch_warnings():
            # run_folder.py has refused every folder that holds another run.
            warnings.filterwarnings("ignore", message="Checkpoint directory .* is not empty")
            super().setup(trainer, pl_module, stage)

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Give a resumed fit this callback's state, with the paths of the new folder."""
        states = checkpoint["callbacks"]
        state = states.pop(self.state_key, None)
        # A test must keep the scores of the fit before it, and fast_dev_run has no folder.
        if state is None or trainer.state.fn != "fit" or cast(Any, trainer).fast_dev_run:
            return
        if state["dirpath"] != self.dirpath:
            # One process copies. All processes need the same scores, because they save together.
            state = trainer.strategy.broadcast(
                self._moved(state, Path(str(trainer.ckpt_path)).parent)
                if trainer.is_global_zero
                else None
            )
        states[self.state_key] = state

    def _moved(self, state: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Copy the checkpoints of another folder, and return the state with the new paths."""
        places: dict[str, str] = {"": ""}
        for path in dict.fromkeys([state["best_model_path"], *state["best_k_models"]]):
            beside = folder / Path(path).name  # its path if the earlier folder was moved
            source = beside if beside.is_file() else Path(path)
            if source.is_file():
                places[path] = os.path.join(str(self.dirpath), source.name)
                with atomic_write(Path(places[path])) as partial:
                    shutil.copyfile(source, partial)
            elif path:
                _log.warning(
                    "the earlier checkpoint %s is missing, so its score is discarded", path
                )
        scores = {
            places[path]: score for path, score in state["best_k_models"].items() if path in places
        }
        best, worst = (max, min) if self.mode == "max" else (min, max)
        best_path = best(
            scores, key=scores.__getitem__, default=places.get(state["best_model_path"], "")
        )
        worst_path = worst(scores, key=scores.__getitem__, default="")
        return state | {
            "dirpath": self.dirpath,
            "best_k_models": scores,
            "best_model_path": best_path,
            "best_model_score": scores.get(best_path),
            "kth_best_model_path": worst_path,
            "kth_value": scores.get(worst_path, self.kth_value),
        }


class BestCheckpoint(ResumableCheckpoint):
    """Options of the best checkpoint, which is tested; last.ckpt is always kept as well."""

    def __init__(
        self,
        dirpath: str | None = None,
        filename: str = "best-epoch{epoch:02d}",
        monitor: str | None = "val/accuracy",
        mode: Literal["auto", "min", "max"] = "auto",
        auto_insert_metric_name: bool = False,
        save_last: bool | Literal["link"] | None = None,
        every_n_train_steps: NonNegativeInt | None = None,
        **kwargs: Any,
    ) -> None:
        """Find the direction of the metric, and pass everything on to Lightning.

        Args:
            dirpath: Folder of the checkpoints; if not given, checkpoints/ in the run folder.
            filename: Name of the file without its suffix; the epoch and metrics, such as
                '{val/loss:.3f}', may be parts of the name.
            monitor: Metric that chooses the best epoch; null keeps the last epoch.
            mode: Whether the best value is the smallest (min) or the largest (max); 'auto' is min
                for metrics such as val/loss and val/ece, and max for all others.
            auto_insert_metric_name: Write the name of each metric into the file's name, before the
                metric's value.
            save_last: Not needed, because last.ckpt is always kept.
            every_n_train_steps: Number of steps between two checkpoints; null and 0 make no
                checkpoints by steps.
            **kwargs: See `lightning.pytorch.callbacks.ModelCheckpoint`.

        Raises:
            SettingsError: No best checkpoint would be kept.
        """
        if kwargs.get("save_top_k") == 0:
            raise SettingsError(
                "--checkpoint.save_top_k 0 keeps no checkpoint to test: pass 1 or more, or -1 to "
                "keep all"
            )
        if filename == "last":
            raise SettingsError(
                "--checkpoint.filename last is the name of the checkpoint to resume from, which "
                "would replace the best checkpoint: choose another name"
            )
        super().__init__(
            dirpath=dirpath,
            filename=filename,
            monitor=monitor,
            mode=best_value(monitor) if mode == "auto" else mode,
            auto_insert_metric_name=auto_insert_metric_name,
            save_last=save_last,
            every_n_train_steps=every_n_train_steps,
            **kwargs,
        )


class LastCheckpoint(ResumableCheckpoint):
    """Keeps the checkpoint to resume from; Lightning's ``save_last`` copies the best checkpoint.

    The checkpoint is saved after every validation and at the end of every epoch.
    """

    def _should_save_on_train_epoch_end(self, trainer: lightning.Trainer) -> bool:
        """Leave out a validation at the end of an epoch, where the epoch's end saves."""
        return not trainer.validating or trainer.is_last_batch


def best_checkpoint(trainer: lightning.Trainer) -> BestCheckpoint:
    """Find the `BestCheckpoint` among a trainer's callbacks."""
    (found,) = (c for c in cast(Any, trainer).callbacks if isinstance(c, BestCheckpoint))
    return found


def without_best(trainer: lightning.Trainer) -> MonitorError:
    """Say why a training has no best checkpoint."""
    kept, progress = best_checkpoint(trainer), cast(Any, trainer)
    last = Path(str(kept.dirpath), "last.ckpt")
    if not last.is_file():
        return MonitorError(
            "nothing was trained, so there is no checkpoint: allow more with "
            "--trainer.max_epochs, --trainer.max_steps or --trainer.max_time"
        )
    if kept.monitor is None or kept.monitor in progress.callback_metrics:
        return MonitorError(
            "no checkpoint was due in this training, so nothing was tested: let "
            "--checkpoint.every_n_epochs, --checkpoint.every_n_train_steps or "
            f"--checkpoint.train_time_interval save one, or test {last}"
        )
    return MonitorError(
        f"no validation measured {kept.monitor}, so no checkpoint is the best and nothing was "
        f"tested: go on from {last} with --ckpt_path and a longer --trainer.max_epochs, or "
        "validate more often (--trainer.check_val_every_n_epoch)"
    )
