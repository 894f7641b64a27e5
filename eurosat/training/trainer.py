"""Lightning's Trainer with defaults that fit the hardware and SLURM."""

import logging
import os
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.loggers import Logger

from eurosat.errors import CheckpointError, SettingsError
from eurosat.files import atomic_write
from eurosat.hardware import check_cuda, computes_bf16, idle_gpu
from eurosat.training.cluster import check_rank

_log = logging.getLogger(__name__)

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
"""Values of ``--trainer.precision``."""


class Trainer(lightning.Trainer):
    """Lightning's Trainer with eurosat's defaults, and the additional ``precision: auto``."""

    def __init__(
        self,
        *,
        precision: Precision = "auto",
        logger: Logger | Iterable[Logger] | bool | None = False,
        max_epochs: int | None = 10,
        log_every_n_steps: NonNegativeInt | None = 1,
        accumulate_grad_batches: PositiveInt = 1,
        gradient_clip_val: NonNegativeFloat | None = None,
        check_val_every_n_epoch: PositiveInt | None = 1,
        num_nodes: PositiveInt = 1,
        deterministic: bool | Literal["warn"] | None = True,
        default_root_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        """Resolve ``auto``, and pass everything else on to Lightning.

        Args:
            precision: 'auto' is bf16 mixed precision where the hardware computes in bf16, and 32
                bits otherwise. All other values are Lightning's.
            logger: Further loggers, such as W&B, TensorBoard or MLflow (configs/logger/).
                metrics.csv is always written; true and false add no logger.
            max_epochs: Number of epochs; -1 trains without a limit.
            log_every_n_steps: Number of steps between two writes of the metrics that a callback
                logs in every step, such as the learning rates of LearningRateMonitor. eurosat's own
                metrics are logged once per epoch, whatever the value of this option.
            accumulate_grad_batches: Number of batches whose gradients make one optimiser step. The
                last step of an epoch takes the batches that are left.
            gradient_clip_val: Largest norm of the gradient; 0 and null do not limit the gradient.
                With --trainer.gradient_clip_algorithm=value, the limit applies to each element.
            check_val_every_n_epoch: Number of epochs from one validation to the next. With null, a
                validation follows every --trainer.val_check_interval batches, counted across
                epochs.
            num_nodes: Number of machines.
            deterministic: Whether the same command with the same seed on the same machine gives
                the same metrics. 'warn' only warns of an operation that is not deterministic.
            default_root_dir: Has no effect, because --output_root and --run_directory choose the
                run folder.
            **kwargs: See `lightning.Trainer`.
        """
        if precision == "auto":
            precision = "bf16-mixed" if computes_bf16(str(kwargs.get("accelerator"))) else "32-true"
        if kwargs.get("accelerator") in ("gpu", "cuda"):
            check_cuda()
        elif kwargs.get("accelerator") in (None, "auto") and (reason := idle_gpu()):
            _log.warning(
                "this machine has a GPU and the run computes on the CPU: %s. "
                "--trainer.accelerator gpu makes this an error",
                reason,
            )
        kwargs["plugins"] = _with_defaults(kwargs.get("plugins"))
        super().__init__(
            precision=precision,
            logger=logger,
            max_epochs=max_epochs,
            log_every_n_steps=log_every_n_steps,
            accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=gradient_clip_val,
            check_val_every_n_epoch=check_val_every_n_epoch,
            num_nodes=num_nodes,
            deterministic=deterministic,
            default_root_dir=default_root_dir,
            **kwargs,
        )
        check_rank(self.world_size)
        # Deterministic mode also fills uninitialised memory. No code here reads uninitialised
        # memory, and filling makes a step on a CPU 5 % slower.
        settings: Any = torch.utils.deterministic
        settings.fill_uninitialized_memory = False

    # The overrides describe --ckpt_path, because Lightning also describes keywords, such as
    # 'best', that the command line refuses.

    def fit(self, *args: Any, ckpt_path: str | None = None, **kwargs: Any) -> None:  # type: ignore[override]
        """Train a model.

        Args:
            *args: See `lightning.Trainer.fit`.
            ckpt_path: Path of a .ckpt file of a run. The training continues from this checkpoint,
                in a new run folder.
            **kwargs: See `lightning.Trainer.fit`.
        """
        super().fit(*args, ckpt_path=ckpt_path, **kwargs)  # type: ignore[misc]

    def validate(self, *args: Any, ckpt_path: str | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Validate a model.

        Args:
            *args: See `lightning.Trainer.validate`.
            ckpt_path: Path of the .ckpt file of a run. Required.
            **kwargs: See `lightning.Trainer.validate`.
        """
        return super().validate(*args, ckpt_path=ckpt_path, **kwargs)  # type: ignore[misc]

    def test(self, *args: Any, ckpt_path: str | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Test a model.

        Args:
            *args: See `lightning.Trainer.test`.
            ckpt_path: Path of the .ckpt file of a run. Required.
            **kwargs: See `lightning.Trainer.test`.
        """
        return super().test(*args, ckpt_path=ckpt_path, **kwargs)  # type: ignore[misc]

    def predict(self, *args: Any, ckpt_path: str | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Classify images.

        Args:
            *args: See `lightning.Trainer.predict`.
            ckpt_path: Path of the .ckpt file of a run. Required.
            **kwargs: See `lightning.Trainer.predict`.
        """
        return super().predict(*args, ckpt_path=ckpt_path, **kwargs)  # type: ignore[misc]


def check_trainer(settings: Any, verb: str) -> None:
    """Refuse settings of Lightning's Trainer that a recorded run excludes.

    Args:
        settings: The settings of `Trainer`, as parsed.
        verb: The verb that uses the trainer.

    Raises:
        SettingsError: A setting excludes the record of a run or the data module, or leaves the verb
            no batch.
    """
    limit = {"fit": "train", "validate": "val"}.get(verb, verb)
    if settings[f"limit_{limit}_batches"] == 0:
        raise SettingsError(
            f"--trainer.limit_{limit}_batches 0 leaves nothing to {verb}: leave the option out"
        )
    if settings.val_check_interval == 0:
        raise SettingsError(
            "--trainer.val_check_interval 0 is no interval: pass a number of batches, or a "
            "fraction of an epoch; --trainer.limit_val_batches 0 turns the validation off"
        )
    if settings.barebones:
        raise SettingsError(
            "--trainer.barebones turns off loggers and checkpoints, which every run has: use "
            "--profile to find what a training spends its time on"
        )
    strategy = str(settings.strategy)
    if strategy.startswith("ddp_") and any(w in strategy for w in ("spawn", "fork", "notebook")):
        raise SettingsError(
            f"--trainer.strategy {strategy} starts processes that do not get the data: use "
            "--trainer.strategy ddp"
        )


def stopped_by_settings(error: Exception) -> SettingsError | None:
    """Turn an error that Lightning or an optimiser of torch raises into a named error.

    Lightning checks some settings only where it uses them, and raises errors of many types.

    Args:
        error: Any error of a run.

    Returns:
        The named error; None if the error was raised elsewhere, such as in eurosat.
    """
    modules = [
        frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    own = max((i for i, name in enumerate(modules) if name.startswith("eurosat.")), default=-1)
    # Callbacks such as ModelPruning call functions of torch that refuse the settings.
    called = any(name.startswith("lightning.pytorch.callbacks.") for name in modules[own + 1 :])
    if not called and not modules[-1].startswith(("lightning.", "torch.optim.")):
        return None
    return SettingsError(
        f"the run cannot go on with these settings ({type(error).__name__}: "
        f"{str(error).strip()}): correct the setting that the message is about; run.jsonl in the "
        "run folder has the traceback"
    )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, and then moves the file there in one step.

    Lightning writes to the machine's folder for temporary files. From another file system, such as
    a container's, the file is copied, and a process that is killed while it copies would leave half
    of ``last.ckpt``.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint; Lightning saves into buckets."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with atomic_write(Path(path)) as partial:
            torch.save(checkpoint, partial)

    def load_checkpoint(self, path: str | Path, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Load a checkpoint as weights only.

        A checkpoint names its run's best checkpoint, and Lightning would download any address and
        run the code of the file.

        Raises:
            CheckpointError: The path is an address.
        """
        if str(path).startswith("http"):
            raise CheckpointError(f"{path} is no file: download the checkpoint first")
        return super().load_checkpoint(path, *arguments, **options | {"weights_only": True})


def _with_defaults(plugins: Any) -> list[Any]:
    """Add the atomic checkpoints, and SLURM's environment without Lightning's way to requeue a job.

    On a signal, Lightning saves ``hpc_ckpt_1.ckpt`` and requeues the job. Lightning prefers this
    file to every later ``last.ckpt``, so that a job that is requeued again would lose epochs. SLURM
    requeues jobs itself, and ``--resume auto`` continues them.
    """
    given = list(plugins) if isinstance(plugins, list | tuple) else [plugins] if plugins else []
    if not any(isinstance(plugin, CheckpointIO) for plugin in given):
        given.append(AtomicCheckpointIO())
    if (
        "SLURM_NTASKS" in os.environ
        and SLURMEnvironment.detect()
        and not TorchElasticEnvironment.detect()
        and not any(isinstance(plugin, ClusterEnvironment) for plugin in given)
    ):
        given.append(SLURMEnvironment(auto_requeue=False))
    return given
