"""How well a model's probabilities are calibrated, and what temperature scaling would change.

The temperature is chosen on the validation images and measured on the test images (Guo et al., "On
Calibration of Modern Neural Networks", ICML 2017). No other command of eurosat scales temperatures.
"""

from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from benchmarks.common import parser, save
from eurosat.bands import resolve_channels, select_bands
from eurosat.evaluation.run_images import open_images
from eurosat.inference.backend import Probabilities
from eurosat.inference.runtime import open_model
from eurosat.metrics import log_loss, metrics


def scaled(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Divide the logits by a temperature; softmax does not need the logits' common offset."""
    logarithms = np.log(np.maximum(probabilities.astype(np.float64), 1e-12)) / temperature
    powers = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    answers: Probabilities = powers / powers.sum(axis=1, keepdims=True)
    return answers


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="checkpoint or exported file")
    args = options.parse_args()
    model = open_model(args.model)
    data = open_images(args.model, model.card, args.source, args.root, exact=True)
    found = {}
    for name, rows in (("val", data.splits.val), ("test", data.splits.test)):
        channels = resolve_channels(model.card.bands)
        pixels = select_bands(data.store.images[rows], channels, data.channels)
        patches = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        parts = [model.predict(patches[start : start + 64]) for start in range(0, len(rows), 64)]
        found[name] = np.concatenate(parts), data.store.labels[rows]
    probabilities, labels = found["val"]
    temperature = minimize_scalar(
        lambda value: log_loss(scaled(probabilities, value), labels),
        bounds=(0.1, 10),
        method="bounded",
    ).x
    probabilities, labels = found["test"]
    confidence = probabilities.max(axis=1)
    between = (confidence >= 0.8) & (confidence < 0.9)
    correct = (probabilities.argmax(axis=1) == labels)[between]
    save(
        "calibration",
        {
            "model": model.card.version,
            "images": {name: len(rows) for name, (_, rows) in found.items()},
            "confidence_of_0.8_to_0.9": {
                "images": len(correct),
                "accuracy": float(correct.mean()),
            },
            "temperature": float(temperature),
            "test": {
                case: {metric.name: metric.score(answers, labels) for metric in metrics()}
                | {
                    "mean_confidence": float(answers.max(axis=1).mean()),
                    "median_confidence": float(np.median(answers.max(axis=1))),
                }
                for case, answers in (
                    ("as trained", probabilities),
                    ("temperature scaled", scaled(probabilities, temperature)),
                )
            },
        },
    )


if __name__ == "__main__":
    main()
