"""The module that is exported and served: it turns raw patches into probabilities and features."""

from typing import Any

import torch
from torch import Tensor, nn

from eurosat.models.classifier import EuroSATClassifier


class Predictor(nn.Module):
    """Preprocessing, backbone and softmax of a classifier, which every exported file holds."""

    def __init__(self, classifier: EuroSATClassifier) -> None:
        """Take the preprocessing and the backbone of a trained classifier."""
        super().__init__()
        self.preprocess = classifier.preprocess
        self.backbone = classifier.backbone

    def forward(self, patches: Tensor) -> Tensor:
        """Classify uint8 or uint16 patches (B, C, H, W) as float32 probabilities (B, classes)."""
        logits: Tensor = self.backbone(self.preprocess(patches))
        return logits.float().softmax(dim=1)

    def describe(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Classify patches, and give the features that the last layer classifies.

        Args:
            patches: Raw pixels, uint8 or uint16, shape (B, C, H, W).

        Returns:
            Probabilities, float32, shape (B, classes), and features, float32, shape (B, F).
        """
        backbone: Any = self.backbone
        maps = backbone.forward_features(self.preprocess(patches))
        features: Tensor = backbone.forward_head(maps, pre_logits=True)
        logits: Tensor = backbone.get_classifier()(features)
        return logits.float().softmax(dim=1), features.float()

    def describing(self) -> nn.Module:
        """Give a module whose forward is `describe`, to export."""
        return _Describing(self)

    def has_features(self, patches: Tensor) -> bool:
        """Return whether `describe` gives the probabilities of `forward`, and one vector a patch.

        timm's interface gives the input of the last layer for most backbones. For some backbones,
        such as those with two classifiers, `describe` fails or gives other probabilities.

        Args:
            patches: Any raw patches, shape (B, C, H, W).
        """
        with torch.inference_mode():
            expected = self(patches)
            try:
                probabilities, features = self.describe(patches)
            except Exception:  # The backbone has no such methods, or they return something else.
                return False
            return features.ndim == 2 and torch.allclose(probabilities, expected, atol=1e-5)


class _Describing(nn.Module):
    """A predictor's `describe` as a module of its own."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        return self.predictor.describe(patches)
