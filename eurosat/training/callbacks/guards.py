"""Runs that cannot end well end early, with a named error."""

import math
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from eurosat.errors import DivergenceError, MonitorError
from eurosat.training.termination import listen_instead_of_lightning

_STEPS_BETWEEN_LOOKS = 50


class DivergenceGuard(Callback):
    """Ends a run whose loss is not a finite number any more.

    Looking at a loss on a GPU makes the processor wait for it. So losses are kept there, and
    looked at every 50 steps, before a checkpoint is saved, and at the end of an epoch. Under DDP
    all processes take these steps together, as looking needs all of them.
    """

    def __init__(self) -> None:
        """Start without losses."""
        self._losses: list[Tensor] = []
        self._batch = 0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Forget the losses of an epoch that was left."""
        self._losses = []

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the loss of a step, and look at the last ones now and then.

        Raises:
            DivergenceError: One of them is NaN or infinite, on any process.
        """
        self._losses.append(outputs["loss"].detach())
        self._batch = batch_idx
        if len(self._losses) == _STEPS_BETWEEN_LOOKS or trainer.is_last_batch:
            self._look(trainer)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Look before a checkpoint is written, which may be within an epoch.

        Raises:
            DivergenceError: One of the last losses is NaN or infinite, on any process.
        """
        self._look(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Look at the end of an epoch, which ``max_steps`` may have cut off.

        Raises:
            DivergenceError: One of the last losses is NaN or infinite, on any process.
        """
        self._look(trainer)

    def _look(self, trainer: lightning.Trainer) -> None:
        if not self._losses:
            return
        finite = torch.stack(self._losses).isfinite().cpu()
        self._losses = []
        # All processes end together: one that went on alone would wait for the others for ever.
        if trainer.strategy.reduce_boolean_decision(bool(finite.all()), all=True):
            return
        good_steps = int(finite.cumprod(dim=0).sum())
        first = self._batch + 1 - len(finite) + good_steps
        raise DivergenceError(
            f"the training loss is not finite at batch {min(first, self._batch)} of epoch "
            f"{trainer.current_epoch}{_HINT}"
        )

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Look at the validation loss: weights may break in an epoch's last step.

        Raises:
            DivergenceError: It is NaN or infinite.
        """
        loss = trainer.callback_metrics.get("val/loss")
        if trainer.state.fn == "fit" and loss is not None and not math.isfinite(loss):
            raise DivergenceError(
                f"the validation loss is {float(loss)} in epoch {trainer.current_epoch}{_HINT}"
            )


_HINT = (
    ": lower the learning rate (--model.optimizer.init_args.lr), warm it up (--model.lr_scheduler "
    "eurosat.models.WarmupCosine), clip gradients (--trainer.gradient_clip_val 1) or "
    "compute in 32 bits (--trainer.precision 32-true)"
)


class MonitorGuard(Callback):
    """Refuses, before training, to watch a validation metric that nothing logs."""

    def on_sanity_check_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Compare what is watched with what the trial validation logged.

        Raises:
            MonitorError: A callback watches a metric of the validation that is not there.
        """
        logged = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
        for callback in cast(Any, trainer).callbacks:
            monitor = getattr(callback, "monitor", None)
            if isinstance(monitor, str) and monitor.startswith("val/") and monitor not in logged:
                raise MonitorError(
                    f"{type(callback).__name__} watches {monitor}, which nothing logs; a "
                    f"validation logs {', '.join(logged)}"
                )


class TerminationGuard(Callback):
    """Lets SIGTERM end a run wherever it comes.

    Lightning alone deadlocks with several processes, and lets a signal pass that comes in the last
    batch of a test or a validation.
    """

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Listen while training."""
        self._listen(trainer)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Listen while validating, which also comes before training."""
        self._listen(trainer)

    def on_test_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Listen while testing."""
        self._listen(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """End what a signal in the last batch was to end; fit looks itself.

        Raises:
            SIGTERMException: There was one.
        """
        if trainer.state.fn == "validate" and trainer.received_sigterm:
            raise SIGTERMException

    def on_test_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """End what a signal in the last batch was to end.

        Raises:
            SIGTERMException: There was one.
        """
        if trainer.received_sigterm:
            raise SIGTERMException

    @staticmethod
    def _listen(trainer: lightning.Trainer) -> None:
        if trainer.world_size > 1:
            listen_instead_of_lightning(trainer)
