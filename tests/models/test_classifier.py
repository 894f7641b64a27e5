"""The module: self-contained checkpoints, freezing, optimisers from YAML, blending."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD, AdamW

from eurosat.bands import BANDS, RGB
from eurosat.errors import EuroSATError
from eurosat.hardware import computes_bf16
from eurosat.labels import CLASSES
from eurosat.models.classifier import EuroSATClassifier
from eurosat.models.mixing import Mixing
from eurosat.models.preprocess import Preprocess
from eurosat.models.schedules import WarmupCosine
from eurosat.training.trainer import Trainer
from tests.conftest import Run

SMALL: dict[str, Any] = {
    "backbone": "patchnet",
    "backbone_args": {"stem_width": 8, "widths": (8, 16)},
}


def raw(channels: int = 3, count: int = 4) -> torch.Tensor:
    dtype = torch.uint8 if channels == 3 else torch.uint16
    pixels = torch.randint(0, 255, (count, channels, 64, 64), dtype=torch.int32)
    return pixels.to(dtype)


def test_preprocess_normalises_raw_pixels_of_both_kinds() -> None:
    mean_pixel = torch.tensor([channel.mean for channel in RGB]).view(1, 3, 1, 1)
    assert torch.allclose(Preprocess("rgb")(mean_pixel), torch.zeros(1, 3, 1, 1))
    normalised = Preprocess("all")(raw(13))
    band = BANDS[8]
    expected = (raw(13).float()[:, 8] - band.mean) / band.std
    assert normalised.dtype == torch.float32
    assert normalised[:, 8].shape == expected.shape
    one = torch.full((1, 13, 1, 1), 2000, dtype=torch.uint16)
    assert Preprocess("all")(one)[0, 8, 0, 0] == pytest.approx((2000 - band.mean) / band.std)


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("bands", ["rgb", "all"])
def test_any_timm_backbone_takes_any_bands(backbone: str, bands: str) -> None:
    model = EuroSATClassifier(backbone=backbone, bands=bands).eval()
    logits = model(raw(3 if bands == "rgb" else 13, 2))
    assert logits.shape == (2, 10)
    assert logits.dtype == torch.float32


def test_a_backbone_that_does_not_exist_is_answered_with_close_names() -> None:
    with pytest.raises(EuroSATError, match=r"no model 'resnet19': choose .*resnet18"):
        EuroSATClassifier(backbone="resnet19")


def test_the_checkpoint_alone_predicts(trained: Run, tmp_path: Path) -> None:
    checkpoint = torch.load(trained.best, weights_only=True)
    assert checkpoint["hyper_parameters"]["classes"] == list(CLASSES)
    model = EuroSATClassifier.load_from_checkpoint(trained.best, map_location="cpu").eval()
    assert model.classes == CLASSES
    assert torch.equal(model.preprocess.mean, Preprocess("rgb").mean)
    again = EuroSATClassifier.load_from_checkpoint(trained.best, map_location="cpu").eval()
    patches = raw()
    assert torch.equal(model(patches), again(patches))


def test_a_frozen_backbone_keeps_weights_and_batch_norm_statistics() -> None:
    model = EuroSATClassifier(**SMALL, freeze_backbone=True, optimizer=AdamW)
    model.train()
    trainable = [name for name, p in model.backbone.named_parameters() if p.requires_grad]
    assert trainable == ["head.weight", "head.bias"]
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    optimizer = model.configure_optimizers()
    model(raw()).sum().backward()
    optimizer.step()
    changed = [n for n, v in model.backbone.state_dict().items() if not torch.equal(v, before[n])]
    assert changed == ["head.weight", "head.bias"]


@pytest.mark.parametrize(
    ("backbone", "arguments", "heads"),
    [
        ("deit_tiny_distilled_patch16_224", {"img_size": 64}, ("head.", "head_dist.")),
        ("levit_128s", {}, ("head.", "head_dist.")),
    ],
)
def test_both_classifiers_of_a_distilled_model_are_trained(
    backbone: str, arguments: dict[str, Any], heads: tuple[str, ...]
) -> None:
    model = EuroSATClassifier(backbone, backbone_args=arguments, freeze_backbone=True).train()
    trained = [name for name, weight in model.backbone.named_parameters() if weight.requires_grad]
    assert {f"{name.partition('.')[0]}." for name in trained} == set(heads)
    assert model.backbone.head.training
    assert model.backbone.head_dist.training


def test_an_epoch_can_unfreeze_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = EuroSATClassifier(**SMALL, freeze_backbone=True, unfreeze_at_epoch=2)
    groups = model.configure_optimizers().param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.backbone.parameters()))
    model.train()
    for epoch, trains in ((0, False), (1, False), (2, True), (3, True)):
        monkeypatch.setattr(EuroSATClassifier, "current_epoch", epoch)
        model.on_train_epoch_start()
        assert model.backbone.stem[0].weight.requires_grad is trains
        assert model.backbone.stem[1].training is trains
    with pytest.raises(EuroSATError, match="freeze_backbone true"):
        EuroSATClassifier(**SMALL, unfreeze_at_epoch=2)


def test_weight_decay_is_kept_off_norms_and_biases_with_any_optimiser() -> None:
    for optimiser in (
        lambda groups: AdamW(groups, lr=0.1, weight_decay=0.3),
        lambda groups: SGD(groups, lr=0.1, weight_decay=0.3),
    ):
        groups = EuroSATClassifier(**SMALL, optimizer=optimiser).configure_optimizers().param_groups
        decays = {group["weight_decay"]: group["params"] for group in groups}
        assert set(decays) == {0.3, 0.0}
        assert all(parameter.ndim > 1 for parameter in decays[0.3])
        assert all(parameter.ndim <= 1 for parameter in decays[0.0])


def test_warmup_cosine_starts_low_peaks_and_ends_at_its_final_rate() -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = WarmupCosine(optimizer, warmup=0.2, final=0.1)
    schedule.total_steps = 100
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(2.0 / 25)
    assert rates[20] == max(rates) == pytest.approx(2.0)
    assert rates[60] == pytest.approx(1.1)
    assert rates[100] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="fractions"):
        WarmupCosine(optimizer, warmup=2)


def test_a_training_that_is_extended_goes_on_along_its_new_cosine() -> None:
    def train(steps: int, length: int, state: Any = None) -> tuple[WarmupCosine, SGD]:
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = WarmupCosine(optimizer)
        schedule.total_steps = length
        if state is not None:
            schedule.load_state_dict(state)
        for _ in range(steps):
            optimizer.step()
            schedule.step()
        return schedule, optimizer

    done, _ = train(10, 10)
    _, extended = train(2, 20, done.state_dict())
    _, whole = train(12, 20)
    assert extended.param_groups[0]["lr"] == whole.param_groups[0]["lr"] > 0.3


@pytest.mark.parametrize(("mixup", "cutmix"), [(1.0, 0.0), (0.0, 1.0)])
def test_blended_targets_are_the_shares_of_the_blended_pixels(mixup: float, cutmix: float) -> None:
    patches = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 64, 64)
    targets = torch.eye(4)
    blend = Mixing(mixup, cutmix, 1.0)
    for step in range(20):
        mixed, soft = blend(patches, targets, (1, step))
        assert torch.allclose(soft.sum(dim=1), torch.ones(4))
        # Patch i is filled with the number i, so its mean is the expectation of its targets.
        assert torch.allclose(mixed.mean(dim=(1, 2, 3)), soft @ torch.arange(4.0), atol=1e-5)
    assert torch.equal(blend(patches, targets, (1, 3))[0], blend(patches, targets, (1, 3))[0])
    assert not torch.equal(blend(patches, targets, (1, 3))[1], blend(patches, targets, (1, 4))[1])


@pytest.mark.training
def test_the_training_accuracy_of_blended_patches_counts_fractions() -> None:
    """A prediction of a blended patch is right by the fraction of the predicted class."""
    model = EuroSATClassifier(**SMALL, mixup_alpha=1.0)
    model.mixing = lambda patches, targets, _: (patches, 0.75 * targets + 0.25 * targets.roll(1, 0))
    model.trainer = Trainer(accelerator="cpu", devices=1)
    model.log = lambda *_, **__: None  # type: ignore[method-assign]
    model.backbone.forward = lambda patches: torch.eye(10)[torch.tensor([0, 0, 3])]
    batch = {"image": raw(count=3), "label": torch.tensor([0, 1, 2])}
    model.training_step(batch, 0)
    # Targets: 0.75 of class 0, then 0.25 of class 0, then none of class 3.
    assert model.train_accuracy.compute() == pytest.approx((0.75 + 0.25) / 3)


def test_a_probability_of_zero_blends_nothing() -> None:
    patches, targets = torch.rand(4, 3, 8, 8), torch.eye(4)
    mixed, soft = Mixing(1.0, 1.0, 0.0)(patches, targets, (0,))
    assert mixed is patches
    assert soft is targets


def test_channels_last_is_kept_through_the_preprocessing() -> None:
    model = EuroSATClassifier(**SMALL)
    patches = torch.from_numpy(np.zeros((2, 64, 64, 3), dtype=np.uint8)).permute(0, 3, 1, 2)
    assert model.preprocess(patches).is_contiguous(memory_format=torch.channels_last)
    assert model.backbone.stages[0][0][0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_a_compiled_model_keeps_clean_checkpoint_names() -> None:
    plain, compiled = EuroSATClassifier(**SMALL), EuroSATClassifier(**SMALL, compile=True)
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    compiled.load_state_dict(plain.state_dict())
    patches = raw()
    assert torch.allclose(plain.eval()(patches), compiled.eval()(patches), atol=1e-4)


def test_precision_auto_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    for capable, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda c=capable: {"avx512_bf16": c})
        assert computes_bf16("cpu") is capable
        trainer = Trainer(accelerator="cpu", devices=1, logger=False)
        assert trainer.precision == expected


def test_the_backbone_is_checked_where_its_weights_are() -> None:
    """Lightning names the GPU as the module's device before it moves the weights to the GPU."""
    module = EuroSATClassifier(**SMALL)
    module._device = torch.device("meta")  # as Lightning sets it before the hook `setup`
    module.trainer = Trainer(accelerator="cpu", devices=1)
    module.trainer.datamodule = SimpleNamespace(patch_size=64)  # type: ignore[attr-defined]
    module.setup("fit")
    assert module.patch_size == 64
