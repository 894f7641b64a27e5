"""The LightningModule: preprocessing followed by any timm backbone."""

import os
from pathlib import Path
from typing import Any, Literal, cast

import lightning
import torch
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, NonNegativeInt, PositiveInt
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric, MetricCollection

from eurosat.bands import is_rgb
from eurosat.errors import CheckpointError, EuroSATError
from eurosat.labels import CLASSES, check_class_names
from eurosat.models.backbones import build_backbone
from eurosat.models.factories import SharedFactory
from eurosat.models.mixing import Mixing
from eurosat.models.patch_size import UNRECORDED_PATCH_SIZE, check_backbone, check_patch_size
from eurosat.models.preprocess import Preprocess
from eurosat.models.restoring import (
    check_resumable,
    keep_settings,
    keep_settings_of_callbacks,
    restore_schedule,
    unseen_metrics,
)
from eurosat.models.saved import read_saved
from eurosat.models.schedules import WarmupCosine
from eurosat.models.scores import score_collection
from eurosat.models.weights import heads_of, read_weights


class EuroSATClassifier(lightning.LightningModule):
    """The classifier of raw Sentinel-2 patches.

    A checkpoint holds the backbone's name, the bands, the class names, the patch size and the
    normalisation, so ``EuroSATClassifier.load_from_checkpoint(path)`` needs no other argument.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        pretrained: bool | str = False,
        freeze_backbone: bool = False,
        unfreeze_at_epoch: NonNegativeInt | None = None,
        backbone_args: dict[str, Any] | None = None,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
        label_smoothing: ClosedUnitInterval = 0.0,
        mixup_alpha: NonNegativeFloat = 0.0,
        cutmix_alpha: NonNegativeFloat = 0.0,
        mix_probability: ClosedUnitInterval = 1.0,
        ema_decay: ClosedUnitInterval | None = None,
        channels_last: bool = True,
        compile: bool = False,
        bands: str | list[str] = "rgb",
        classes: tuple[str, ...] = CLASSES,
        patch_size: PositiveInt | None = None,
    ) -> None:
        """Build the backbone.

        Args:
            backbone: Name of a timm model (`timm.list_models()`), or 'patchnet', this project's
                small network for patches of 64x64 pixels.
            pretrained: true to start from timm's published weights, the path of a weight file to
                start from the file, false to start from random weights. The file may be a .ckpt
                file of a run, even a run with other classes; the classification layer is always
                new. With a .ckpt file of a run, the model takes over the normalisation of that run.
                With true or another weight file, a model of RGB patches takes the normalisation of
                timm's configuration of the backbone, even if the file was trained with another
                normalisation. In all other cases, the model takes EuroSAT's mean and standard
                deviation: with false; and, for other bands than RGB, with true or a weight file
                that is no .ckpt file of a run.
            freeze_backbone: Train only the classification layer. The weights and the batch-norm
                statistics of the backbone do not change.
            unfreeze_at_epoch: First epoch, counted from 0, in which the backbone is trained too.
                This option requires freeze_backbone. If not given, a frozen backbone is never
                trained.
            backbone_args: Further arguments of the backbone, such as {img_size: 64} for a timm
                model or {stem_width: 32} for patchnet.
            optimizer: Optimiser; if not given, AdamW with torch's defaults. Weight decay is never
                applied to biases and normalisation layers.
            lr_scheduler: Schedule of the learning rate; if not given, the rate is constant.
            lr_scheduler_interval: Unit in which the schedule counts; WarmupCosine always counts
                steps.
            label_smoothing: Fraction of the target probability, 0 to 1, that the training loss
                spreads over all classes.
            mixup_alpha: Parameter of mixup's Beta distribution; 0 turns mixup off.
            cutmix_alpha: Parameter of CutMix's Beta distribution; 0 turns CutMix off.
            mix_probability: Probability that mixup or CutMix blends a batch. If
                mixup and CutMix are both on, one of the two is drawn for each batch.
            ema_decay: Decay of an exponential moving average of the weights, such as 0.998. The
                average is validated, tested and saved in place of the weights. If not given, there
                is no average.
            channels_last: Use the memory format channels-last, which makes convolutions faster.
            compile: Compile the backbone with torch.compile.
            bands: Bands of the patches; always those of --data.bands.
            classes: Class names in label order; always those of --data.classes.
            patch_size: Height and width of a patch in pixels; if not given, the size of the data's
                patches. 'fit', 'validate' and 'test' refuse patches of another size; 'predict' and
                the service resize images.

        Raises:
            EuroSATError: There is no such backbone, or a class name has control characters.
            CheckpointError: The pretrained weights are not available or do not fit.
        """
        super().__init__()
        check_class_names(classes)
        # Hyperparameters of a checkpoint override the command line, so only the hyperparameters
        # that rebuild the network are saved, and none of the training.
        self.save_hyperparameters(
            {
                "backbone": backbone,
                "backbone_args": backbone_args,
                "pretrained": False,
                "bands": bands,
                "classes": list(classes),
                # The parser's type of number would make a checkpoint unreadable.
                "patch_size": int(patch_size) if patch_size else None,
            },
            logger=False,
        )
        self.classes = tuple(classes)
        self.preprocess = Preprocess(bands)
        weights = read_weights(pretrained) if isinstance(pretrained, str) else None
        if weights is not None:
            weights.check_channels(self.preprocess.channels)
        self.backbone = build_backbone(
            backbone,
            weights or bool(pretrained),
            len(self.preprocess.channels),
            len(classes),
            backbone_args or {},
        )
        if weights is not None and weights.statistics is not None:
            self.preprocess.set_statistics(
                *(each.flatten().tolist() for each in weights.statistics)
            )
        elif pretrained and is_rgb(self.preprocess.channels):
            # timm's statistics are for pixel values of 0 to 1.
            published = cast(Any, self.backbone).pretrained_cfg
            self.preprocess.set_statistics(
                [255 * value for value in published["mean"]],
                [255 * value for value in published["std"]],
            )
        if channels_last:
            self.backbone = self.backbone.to(memory_format=torch.channels_last)
        if compile:
            self.backbone.compile()  # Compiling in place keeps the names in checkpoints.
        self.frozen = freeze_backbone
        self.unfreeze_at_epoch = unfreeze_at_epoch
        if freeze_backbone:
            self._set_frozen(True)
        elif unfreeze_at_epoch is not None:
            raise EuroSATError(
                "--model.unfreeze_at_epoch has no effect on a backbone that is not frozen: pass "
                "--model.freeze_backbone true"
            )
        self.optimizer = SharedFactory(optimizer or torch.optim.AdamW)
        self.lr_scheduler = SharedFactory(lr_scheduler) if lr_scheduler else None
        self.lr_scheduler_interval = lr_scheduler_interval
        self.label_smoothing = label_smoothing
        self.mixing = (
            Mixing(mixup_alpha, cutmix_alpha, mix_probability)
            if mixup_alpha > 0 or cutmix_alpha > 0
            else None
        )
        self.ema_decay = None if ema_decay is None else float(ema_decay)
        self._schedules: list[dict[str, Any]] = []
        self._unseen_metrics: dict[str, float] = {}
        self._build_metrics()

    def _build_metrics(self) -> None:
        self.train_loss, self.train_accuracy = MeanMetric(), MeanMetric()
        self.evaluation_metrics = nn.ModuleDict(
            {f"{stage}_metrics": score_collection(f"{stage}/") for stage in ("val", "test")}
        )

    @property
    def patch_size(self) -> int | None:
        """Height and width of a patch in pixels; None before the model has seen any data."""
        size: int | None = self.hparams["patch_size"]
        return size

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: Any = "cpu"
    ) -> "EuroSATClassifier":
        """Open a checkpoint, which is data and runs no code; see `eurosat.models.saved`.

        Args:
            checkpoint_path: A ``.ckpt`` file of a run.
            map_location: Device of the classifier.

        Raises:
            CheckpointError: The file is not a checkpoint of this project.
        """
        saved = read_saved(Path(checkpoint_path))
        try:
            classifier = cls(**saved.hyperparameters)
            classifier.on_load_checkpoint({"hyper_parameters": saved.hyperparameters})
            classifier.load_state_dict(saved.weights)
        except Exception as error:  # The values of a damaged file raise errors of many types.
            raise CheckpointError(
                f"{checkpoint_path} is not a checkpoint of this project ({error}): give a .ckpt "
                "file of a run"
            ) from error
        return classifier.to(map_location)

    def setup(self, stage: str) -> None:
        """Take the patch size of the data.

        Raises:
            PatchSizeError: The model takes patches of another size, or the backbone cannot take
                patches of this size.
        """
        size = getattr(cast(Any, self.trainer).datamodule, "patch_size", None)
        if size is None:  # There are only image files for predict, which the data module resizes.
            return
        if self.patch_size is None:
            self.hparams["patch_size"] = size
        check_patch_size(size, self.patch_size)
        if stage == "fit":
            check_backbone(self, size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the metrics that a schedule has yet to see."""
        checkpoint["unseen_metrics"] = unseen_metrics(self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the patch size of a checkpoint, and for a fit the progress of the training.

        Raises:
            PatchSizeError: The data have patches of another size.
            CheckpointError: The checkpoint holds weights only, and the training is to continue.
        """
        # A checkpoint of an older revision lacks the size.
        size = checkpoint.get("hyper_parameters", {}).get("patch_size") or UNRECORDED_PATCH_SIZE
        if self.patch_size is None:
            self.hparams["patch_size"] = size
        check_patch_size(cast(int, self.patch_size), size)
        if self._trainer is not None and self.trainer.state.fn == "fit":
            check_resumable(checkpoint)
            # Lightning would restore the settings of the schedules too.
            self._schedules, checkpoint["lr_schedulers"] = checkpoint["lr_schedulers"], []
            self._unseen_metrics = checkpoint.get("unseen_metrics", {})
            keep_settings_of_callbacks(cast(Any, self.trainer).callbacks, checkpoint["callbacks"])

    def forward(self, patches: Tensor) -> Tensor:
        """Classify raw patches.

        Args:
            patches: Raw pixel values, uint8 or uint16, shape (B, C, height, width).

        Returns:
            Logits, float32, shape (B, classes).
        """
        logits: Tensor = self.backbone(self.preprocess(patches))
        return logits.float()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one training batch."""
        patches = self.preprocess(batch["image"])
        targets = functional.one_hot(batch["label"], len(self.classes)).to(patches.dtype)
        if self.mixing is not None:
            seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
            draw = (seed, self.current_epoch, batch_idx, self.global_rank)
            patches, targets = self.mixing(patches, targets, draw)
        logits = self.backbone(patches).float()
        labels = batch["label"] if self.mixing is None else targets
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        with cast(Any, self.trainer).profiler.profile("update_metrics"):
            self.train_loss.update(loss.detach(), weight=len(logits))
            # A prediction of a blended patch counts by the fraction of the predicted class.
            hits = targets.gather(1, logits.detach().argmax(dim=1, keepdim=True))
            self.train_accuracy.update(hits)
            self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
            self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Update the validation metrics."""
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Update the test metrics, and return probabilities, labels and indices for the report."""
        probabilities = self._evaluate(batch, "test")
        return {"probabilities": probabilities, "label": batch["label"], "index": batch["index"]}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Return class probabilities, float32, shape (B, classes), and the names of the files."""
        return {"probabilities": self(batch["image"]).softmax(dim=1), "file": batch["file"]}

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> Tensor:
        """Update and log the metrics of a validation or a test, and return the probabilities."""
        probabilities: Tensor = self(batch["image"]).softmax(dim=1)
        metrics = cast(MetricCollection, self.evaluation_metrics[f"{stage}_metrics"])
        metrics.update(probabilities, batch["label"])
        self.log_dict(cast(Any, metrics), prog_bar=stage == "val")
        return probabilities

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and the schedule; biases and norms get no weight decay."""
        never: set[str] = getattr(self.backbone, "no_weight_decay", set)()
        decayed: list[Tensor] = []
        plain: list[Tensor] = []
        for name, parameter in self.backbone.named_parameters():
            if parameter.requires_grad or self.unfreeze_at_epoch is not None:
                (plain if parameter.ndim <= 1 or name in never else decayed).append(parameter)
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        optimizer: Optimizer = self.optimizer([group for group in groups if group["params"]])
        keep_settings(optimizer)
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer)
        settings: dict[str, Any] = {
            "scheduler": scheduler,
            "interval": self.lr_scheduler_interval,
        }
        if isinstance(scheduler, WarmupCosine):
            scheduler.span(self.trainer.estimated_stepping_batches)
            settings["interval"] = "step"
        if isinstance(scheduler, ReduceLROnPlateau):
            settings["monitor"] = getattr(scheduler, "monitor", "val/loss")
            settings["frequency"] = self.trainer.check_val_every_n_epoch or 1
        return cast(OptimizerLRScheduler, {"optimizer": optimizer, "lr_scheduler": settings})

    def configure_callbacks(self) -> list[Callback]:
        """Return the callback that averages the weights during a training."""
        if self.ema_decay is None or self.trainer.state.fn != "fit":
            return []
        return [EMAWeightAveraging(decay=self.ema_decay)]

    def on_fit_start(self) -> None:
        """Refuse to unfreeze with several processes.

        Raises:
            EuroSATError: ``unfreeze_at_epoch`` is set, and several processes train.
        """
        if self.unfreeze_at_epoch is not None and self.trainer.world_size > 1:
            raise EuroSATError(
                "unfreeze_at_epoch does not work with several processes, because the processes "
                "synchronise only the weights that are trained from the start: train the "
                "classification layer first, then resume with --model.freeze_backbone false "
                "--ckpt_path <last.ckpt>"
            )

    def on_train_start(self) -> None:
        """Restore the progress of the schedules."""
        configured = self.trainer.lr_scheduler_configs
        for config, state in zip(configured, self._schedules, strict=False):
            restore_schedule(config.scheduler, state)
            if config.reduce_on_plateau and config.monitor in self._unseen_metrics:
                self.lr_scheduler_step(config.scheduler, self._unseen_metrics[config.monitor])
        self._schedules, self._unseen_metrics = [], {}

    def on_train_epoch_start(self) -> None:
        """Unfreeze the backbone from the epoch ``unfreeze_at_epoch`` on."""
        if self.frozen and self.unfreeze_at_epoch is not None:
            self._set_frozen(self.current_epoch < self.unfreeze_at_epoch)

    def train(self, mode: bool = True) -> "EuroSATClassifier":
        """Switch the training mode, but keep the batch norms of a frozen backbone in evaluation."""
        super().train(mode)
        if mode and self.frozen:
            self.backbone.eval()
            for head in heads_of(self.backbone):
                head.train()
        return self

    def _set_frozen(self, frozen: bool) -> None:
        self.frozen = frozen
        self.backbone.requires_grad_(not frozen)
        for head in heads_of(self.backbone):
            head.requires_grad_(True)
        self.train(self.training)
