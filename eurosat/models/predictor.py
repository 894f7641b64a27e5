"""The classifier as it is exported and served: raw patches in, probabilities out."""

from torch import Tensor, nn

from eurosat.models.classifier import EuroSATClassifier


class Predictor(nn.Module):
    """Raw patches to probabilities: what every exported file holds."""

    def __init__(self, classifier: EuroSATClassifier) -> None:
        """Take the parts of a trained classifier."""
        super().__init__()
        self.preprocess = classifier.preprocess
        self.backbone = classifier.backbone

    def forward(self, patches: Tensor) -> Tensor:
        """Probabilities, float32, shape (B, classes), of uint8 or uint16 patches (B, C, H, W)."""
        logits: Tensor = self.backbone(self.preprocess(patches))
        return logits.float().softmax(dim=1)
