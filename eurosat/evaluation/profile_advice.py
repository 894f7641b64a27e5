"""Advice against the bottleneck of a training."""

from collections.abc import Iterator, Sequence
from typing import Any

from eurosat.evaluation.profile import Phase
from eurosat.hardware import computes_bf16
from eurosat.operating_system import available_cores


def advise(phases: Sequence[Phase], config: Any, *, device: str, precision: str) -> Iterator[str]:
    """Advise settings against a bottleneck, with the current values.

    Args:
        phases: The phases of the bottleneck.
        config: The configuration of the run.
        device: Type of the device, such as 'cuda'.
        precision: Lightning's precision, such as 'bf16-mixed'.

    Yields:
        One piece of advice per option to change; advice that cannot help the run is left out.
    """
    data, model, trainer = config.data, config.model, config.trainer
    larger = f"use larger batches: --data.batch_size (now {data.batch_size})"
    fewer_steps = f"use larger batches for fewer steps: --data.batch_size (now {data.batch_size})"
    match phases[0]:
        case "data":
            cores = available_cores()
            if data.num_workers < cores:
                yield (
                    f"use more workers: --data.num_workers (now {data.num_workers}, {cores} cores)"
                )
            if data.augmentations:
                names = _class_names(data.augmentations)
                yield f"use fewer or faster augmentations: --data.augmentations (now {names})"
            yield f"keep the decoded data on a faster disk: --data.root (now {data.root})"
        case "transfer":
            yield larger
            if device == "cuda" and not data.num_workers:
                yield "pin memory in a worker process: --data.num_workers 1 (now 0)"
        case "forward" | "backward":
            if precision == "32-true" and computes_bf16(device):
                yield "compute in 16 bits: --trainer.precision bf16-mixed (now 32-true)"
            if not model.channels_last:
                yield "keep the channels last in memory: --model.channels_last true"
            if device == "cuda" and trainer.deterministic:
                yield (
                    "allow faster kernels, whose results differ from run to run: "
                    "--trainer.deterministic false"
                )
            if model.pretrained and not model.freeze_backbone:
                yield "train only the last layer: --model.freeze_backbone true"
            yield f"choose a smaller backbone: --model.backbone (now {model.backbone})"
            yield f"train fewer epochs: --trainer.max_epochs (now {trainer.max_epochs})"
        case "optimiser":
            name = _class_names(model.optimizer) or "AdamW"
            if name not in ("AdamW", "SGD"):
                yield f"use a faster optimiser: --model.optimizer torch.optim.AdamW (now {name})"
            elif not (model.optimizer and model.optimizer.init_args.fused):
                yield (
                    f"use one kernel for all weights: --model.optimizer torch.optim.{name} "
                    "--model.optimizer.init_args.fused true"
                )
            if model.ema_decay is not None:
                yield "turn off the moving average of the weights: --model.ema_decay null"
            yield fewer_steps
        case "logging":
            if trainer.callbacks:
                names = _class_names(trainer.callbacks)
                yield f"use fewer callbacks: --trainer.callbacks (now {names})"
            if trainer.logger:
                yield f"use fewer loggers: --trainer.logger (now {_class_names(trainer.logger)})"
            if trainer.enable_progress_bar is not False:
                yield "turn off the progress bar: --trainer.enable_progress_bar false"
            yield fewer_steps
        case "validation":
            every = trainer.check_val_every_n_epoch or 1
            yield f"validate less often: --trainer.check_val_every_n_epoch (now {every})"
            yield "validate on a fraction of the batches: --trainer.limit_val_batches 0.5"
        case "checkpoint":
            every = config.checkpoint.every_n_epochs or 1
            yield f"save checkpoints less often: --checkpoint.every_n_epochs (now {every})"
            yield f"write to a faster disk: --output_root (now {config.output_root})"
        case "other":
            yield fewer_steps


def _class_names(items: Any) -> str:
    """Give the class names of configured objects: of a list, of a single object or of None."""
    found = items if isinstance(items, list) else [items] if items else []
    return ", ".join(str(item.class_path).rpartition(".")[2] for item in found)
