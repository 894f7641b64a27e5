"""Callbacks that end a run early, with a named error, where it cannot succeed."""

import logging
import math
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from eurosat.errors import DivergenceError, MonitorError
from eurosat.metrics import best_value, logged_names
from eurosat.training.termination import listen_instead_of_lightning

_log = logging.getLogger(__name__)
_STEPS_BETWEEN_LOOKS = 50


class AccumulationGuard(Callback):
    """Warns of more batches per step than an epoch has."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Compare the numbers. Lightning divides gradients by the number that the user has set."""
        wanted, present = trainer.accumulate_grad_batches, trainer.num_training_batches
        if wanted > present and trainer.is_global_zero:
            _log.warning(
                "--trainer.accumulate_grad_batches %d is more than the %d batches of an epoch, so "
                "a step takes %d batches and divides their gradients by %d: pass at most %d",
                *(wanted, present, present, wanted, present),
            )


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
        if trainer.state.fn == "validate" and loss is not None:
            check_measured("validation", float(loss))


def check_measured(stage: str, loss: float) -> None:
    """Check the loss of a test or a validation without a training.

    Raises:
        DivergenceError: The loss is NaN or infinite. The other metrics would count patches whose
            logits are NaN as the first class.
    """
    if not math.isfinite(loss):
        raise DivergenceError(
            f"the {stage} loss is {loss}, so the other metrics mean nothing: compute in 32 bits "
            "(--trainer.precision 32-true), or train the model anew"
        )


_HINT = (
    ": lower the learning rate (--model.optimizer.init_args.lr), warm it up (--model.lr_scheduler "
    "eurosat.models.WarmupCosine), clip gradients (--trainer.gradient_clip_val 1) or "
    "compute in 32 bits (--trainer.precision 32-true)"
)


class MonitorGuard(Callback):
    """Refuses, before training, to monitor an unknown metric or the worst value of a metric.

    Checkpoints, early stopping and the schedule of the learning rate may monitor a metric.
    """

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Compare the monitored metrics with the list of metrics.

        Raises:
            MonitorError: A metric is monitored that the training does not log, the worst value of
                a metric would count as the best, or a run without validation would need a
                validation metric to go on.
        """
        better = {name: best_value(name) for name in logged_names() if name[:5] != "test/"}
        watching = [
            (type(callback).__name__, getattr(callback, "monitor", None), callback)
            for callback in cast(Any, trainer).callbacks
        ]
        watching += [
            (type(config.scheduler).__name__, config.monitor, config.scheduler)
            for config in trainer.lr_scheduler_configs
            if config.reduce_on_plateau
        ]
        for name, monitor, watcher in watching:
            stage = monitor.partition("/")[0] if isinstance(monitor, str) else None
            if monitor not in better:
                if stage in ("val", "test"):  # callbacks may log further metrics of a training
                    raise MonitorError(
                        f"{name} monitors {monitor}, which the training does not log: choose one "
                        f"of {', '.join(sorted(better))}"
                    )
                continue
            validates = cast(Any, trainer).limit_val_batches != 0
            if stage == "val" and not validates and not isinstance(watcher, Checkpoint):
                raise MonitorError(
                    f"{name} monitors {monitor}, and --trainer.limit_val_batches 0 turns the "
                    "validation off: monitor train/loss, or validate"
                )
            mode = getattr(watcher, "mode", None)
            if mode in ("min", "max") and better[monitor] != mode:
                raise MonitorError(
                    f"{name} monitors {monitor} with mode {mode}, which takes the worst value for "
                    f"the best: set mode to {better[monitor]}"
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
