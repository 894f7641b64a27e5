"""PatchNet: a small residual network for small patches, fast on CPUs, registered with timm.

A narrow 4x4 stride-2 stem is followed by three stages of convolution, max-pooling and a residual
pair, as in the ResNet-9 of DAWNBench (Page, 2018, "How to train your ResNet"); the stride of the
stem saves computation. The classifier gets the mean and the maximum of every feature, because a
field fills a patch and a road only crosses it.
"""

from typing import Any

import torch
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolution(width, width), _convolution(width, width))

    def forward(self, features: Tensor) -> Tensor:
        residual: Tensor = self.body(features)
        return features + residual


class PatchNet(nn.Module):
    """The network, with timm's interface for classifiers."""

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        stem_width: int = 32,
        widths: tuple[int, ...] = (64, 128, 256),
        drop_rate: float = 0.0,
    ) -> None:
        """Build the network.

        Args:
            num_classes: Number of classes; with 0 the network returns pooled features.
            in_chans: Number of input channels.
            stem_width: Channels after the stem.
            widths: Channels of each stage.
            drop_rate: Dropout before the classifier.
        """
        super().__init__()
        self.num_classes = num_classes
        self.num_features = widths[-1]
        self.head_hidden_size = 2 * widths[-1]
        self.stem = _convolution(in_chans, stem_width, kernel=4, stride=2)
        stages, inputs = [], stem_width
        for width in widths:
            stages.append(
                nn.Sequential(_convolution(inputs, width), nn.MaxPool2d(2), _Residual(width))
            )
            inputs = width
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(drop_rate)
        self.head: nn.Module
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        """The classification layer."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classification layer by a new layer for ``num_classes`` classes."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()

    def forward_features(self, patches: Tensor) -> Tensor:
        """Feature map, shape (B, num_features, height / 16, width / 16)."""
        features: Tensor = self.stages(self.stem(patches))
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool a feature map and, unless ``pre_logits``, classify it."""
        pooled = self.dropout(torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1))
        logits: Tensor = pooled if pre_logits else self.head(pooled)
        return logits

    def forward(self, patches: Tensor) -> Tensor:
        """Logits, shape (B, num_classes), of normalised patches (B, in_chans, height, width)."""
        return self.forward_head(self.forward_features(patches))


default_cfgs = {
    "patchnet": {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 64, 64),
        "first_conv": "stem.0",
        "classifier": "head",
        "license": "mit",
    }
}


@register_model
def patchnet(pretrained: bool = False, **arguments: Any) -> PatchNet:
    """PatchNet with 1.9 million parameters."""
    model: PatchNet = build_model_with_cfg(PatchNet, "patchnet", pretrained, **arguments)
    return model
