"""Callbacks that end a run early, with a named error, where it cannot succeed."""

import math
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from eurosat.errors import DivergenceError, MonitorError
from eurosat.metrics import metrics
from eurosat.training.termination import listen_instead_of_lightning

_STEPS_BETWEEN_LOOKS = 50


class DivergenceGuard(Callback):
    """Ends a run whose loss is NaN or infinite.

    Reading a loss from a GPU makes the CPU wait for the GPU. The losses therefore stay on the GPU,
    and this callback reads them every 50 steps, before a checkpoint is saved and at the end of an
    epoch. Under DDP all processes read their losses at the same steps and decide together.
    """

    def __init__(self) -> None:
        """Start with no losses."""
        self._losses: list[Tensor] = []
        self._batch = 0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Discard the losses of an epoch that did not finish."""
        self._losses = []

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the loss of a step, and check the kept losses every 50 steps.

        Raises:
            DivergenceError: A kept loss is NaN or infinite, on any process.
        """
        self._losses.append(outputs["loss"].detach())
        self._batch = batch_idx
        if len(self._losses) == _STEPS_BETWEEN_LOOKS or trainer.is_last_batch:
            self._look(trainer)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Check the kept losses before a checkpoint is written, which may be within an epoch.

        Raises:
            DivergenceError: A kept loss is NaN or infinite, on any process.
        """
        self._look(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Check the kept losses at the end of an epoch, which ``max_steps`` may have shortened.

        Raises:
            DivergenceError: A kept loss is NaN or infinite, on any process.
        """
        self._look(trainer)

    def _look(self, trainer: lightning.Trainer) -> None:
        if not self._losses:
            return
        finite = torch.stack(self._losses).isfinite().cpu()
        self._losses = []
        # All processes end together: a process that continued alone would wait forever.
        if trainer.strategy.reduce_boolean_decision(bool(finite.all()), all=True):
            return
        good_steps = int(finite.cumprod(dim=0).sum())
        first = self._batch + 1 - len(finite) + good_steps
        raise DivergenceError(
            f"the training loss is not finite at batch {min(first, self._batch)} of epoch "
            f"{trainer.current_epoch}{_HINT}"
        )

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Check the validation loss, because the last step of an epoch may break the weights.

        Raises:
            DivergenceError: The validation loss is NaN or infinite.
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
    """Refuses, before training, a callback that monitors an unknown metric or its worst value."""

    def on_sanity_check_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Compare the monitored metrics with the metrics that the sanity check logged.

        Raises:
            MonitorError: A callback monitors a validation metric that the run does not log, or
                would keep the worst value of a metric.
        """
        better = {f"val/{metric.name}": metric.better for metric in metrics()}
        logged = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
        for callback in cast(Any, trainer).callbacks:
            monitor = getattr(callback, "monitor", None)
            if isinstance(monitor, str) and monitor.startswith("val/") and monitor not in logged:
                raise MonitorError(
                    f"{type(callback).__name__} monitors {monitor}, which the run does not log: "
                    f"choose one of {', '.join(logged)}"
                )
            mode = getattr(callback, "mode", None)
            if mode in ("min", "max") and better.get(str(monitor), mode) != mode:
                raise MonitorError(
                    f"{type(callback).__name__} monitors {monitor} with mode {mode}, which keeps "
                    f"the worst value: set mode to {better[str(monitor)]}"
                )


class TerminationGuard(Callback):
    """Lets SIGTERM end a run at any point.

    Without this callback, Lightning deadlocks when SIGTERM reaches a run of several processes, and
    ignores a SIGTERM that arrives in the last batch of a test or a validation.
    """

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Handle SIGTERM during training."""
        self._listen(trainer)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Handle SIGTERM during validation, which also runs before training."""
        self._listen(trainer)

    def on_test_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Handle SIGTERM during a test."""
        self._listen(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """End a validation whose last batch received SIGTERM; Lightning's fit checks by itself.

        Raises:
            SIGTERMException: SIGTERM arrived.
        """
        if trainer.state.fn == "validate" and trainer.received_sigterm:
            raise SIGTERMException

    def on_test_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """End a test whose last batch received SIGTERM.

        Raises:
            SIGTERMException: SIGTERM arrived.
        """
        if trainer.received_sigterm:
            raise SIGTERMException

    @staticmethod
    def _listen(trainer: lightning.Trainer) -> None:
        if trainer.world_size > 1:
            listen_instead_of_lightning(trainer)
