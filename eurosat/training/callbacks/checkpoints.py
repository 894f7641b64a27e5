"""The best and the last checkpoint of a run, over all attempts at it."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any, cast

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint

from eurosat.files import atomic_write

_log = logging.getLogger(__name__)


class ResumableCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint that remembers across run folders.

    A resumed run has a new folder, and Lightning forgets the scores of another folder: the first
    epoch after a resume would be the best. Here the checkpoints kept so far are copied into the
    new folder, and keep their scores. The earlier folder is left as it is.
    """

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Let a resumed fit know this callback's state, as it is in the new folder."""
        states = checkpoint["callbacks"]
        state = states.pop(self.state_key, None)
        # A test must not forget what fit has found, and fast_dev_run has no folder.
        if state is None or trainer.state.fn != "fit" or cast(Any, trainer).fast_dev_run:
            return
        if state["dirpath"] != self.dirpath:
            # One process copies; all must have the same scores, or they would not save together.
            state = trainer.strategy.broadcast(
                self._moved(state, Path(str(trainer.ckpt_path)).parent)
                if trainer.is_global_zero
                else None
            )
        states[self.state_key] = state

    def _moved(self, state: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Copy the checkpoints of another folder, and give the state with their new places."""
        places: dict[str, str] = {"": ""}
        for path in dict.fromkeys([state["best_model_path"], *state["best_k_models"]]):
            beside = folder / Path(path).name  # where it is if the earlier folder was moved
            source = beside if beside.is_file() else Path(path)
            if source.is_file():
                places[path] = os.path.join(str(self.dirpath), source.name)
                with atomic_write(Path(places[path])) as partial:
                    shutil.copyfile(source, partial)
            elif path:
                _log.warning("the earlier checkpoint %s is gone, and its score is forgotten", path)
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
    """The checkpoint that is tested, of the group ``checkpoint`` of a configuration."""


class LastCheckpoint(ResumableCheckpoint):
    """The checkpoint to resume from; `ModelCheckpoint`'s own ``save_last`` copies the best one."""


def best_checkpoint(trainer: lightning.Trainer) -> BestCheckpoint:
    """The callback that keeps the best checkpoint, whatever others a configuration adds."""
    (found,) = (c for c in cast(Any, trainer).callbacks if isinstance(c, BestCheckpoint))
    return found
