"""The module that is exported and served: it turns raw patches into probabilities."""

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
