"""How often the gate passes an equally good model, and how often it sees a worse one.

The answers of two models to a test split are drawn at random, and judged by the gate's own code
with its default margins. What decides is how often the models differ: the fraction of the images
that only one of the two recognises, which `gate.md` and `gate.json` give for a real pair of models.
Times, sizes and corruptions are left out, so a real candidate passes less often. The check of the
calibration error is judged apart, on models whose calibration is known by construction.
"""

import argparse
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import multinomial

from benchmarks.common import save
from eurosat.evaluation.intervals import calibration_interval, mean_interval, paired_interval
from eurosat.gate.checks import class_changes
from eurosat.gate.evaluate import Answers
from eurosat.gate.thresholds import Thresholds
from eurosat.metrics import calibration_error

CLASS_SIZES = (200, 250, 250, 250, 250, 300, 300, 300, 300, 300)
"""Test images of each class in EuroSAT's stratified split of 80/10/10, in ascending order."""

MARGINS = Thresholds()
DIFFERING = (0.01, 0.015, 0.02, 0.025, 0.03)
CHANGES = (-0.01, -0.005, -0.0025, 0.0, 0.0025, 0.005)
FALLS = (0.02, 0.04, 0.06, 0.08)


def differences(gained: int, lost: int, images: int) -> npt.NDArray[np.float64]:
    """Differences of two models' answers, of which so many were gained and lost."""
    return np.repeat([1.0, -1.0, 0.0], [gained, lost, images - gained - lost])


@cache
def accuracy_passes(gained: int, lost: int, images: int) -> bool:
    """Whether the gate's check of the accuracy passes."""
    low, _ = paired_interval(differences(gained, lost, images))
    return 100 * low >= -MARGINS.accuracy_margin


@cache
def class_passes(gained: int, lost: int, images: int) -> bool:
    """Whether the gate's check of the recall passes a class, beside nine classes without change."""
    others = len(CLASS_SIZES) - 1
    labels = np.append(np.zeros(images, int), np.arange(1, others + 1))
    changed = np.append(differences(gained, lost, images), np.zeros(others))
    ours, theirs = (
        Answers(np.empty(0, np.float32), correct, {}) for correct in (changed >= 0, changed <= 0)
    )
    names = [str(number) for number in range(others + 1)]
    return class_changes(ours, theirs, labels, names, MARGINS.class_margin)[0].passed


def draw(
    gains: npt.NDArray[np.float64], losses: npt.NDArray[np.float64], times: int, repeats: int = 1
) -> dict[str, float]:
    """Draw test splits, and count how often the checks pass.

    Args:
        gains: Probability that only the candidate recognises an image of each class.
        losses: Probability that only the baseline does.
        times: Number of test splits.
        repeats: The test split has `CLASS_SIZES` times this number of images.
    """
    generator = np.random.default_rng(0)
    sizes = repeats * np.array(CLASS_SIZES)
    shares = np.stack([gains, losses, 1 - gains - losses], axis=1)
    counts = generator.multinomial(sizes, shares, size=(times, len(sizes)))[..., :2]
    accuracy = [accuracy_passes(*map(int, total), int(sizes.sum())) for total in counts.sum(axis=1)]
    recall = [
        all(class_passes(*map(int, pair), int(size)) for pair, size in zip(row, sizes, strict=True))
        for row in counts
    ]
    both = np.logical_and(accuracy, recall)
    return {
        "accuracy": float(np.mean(accuracy)),
        "recall": float(np.mean(recall)),
        "both": float(np.mean(both)),
    }


def changed_everywhere(differing: float, change: float, times: int, repeats: int = 1) -> float:
    """Fraction of candidates that pass both checks, if every class changed by `change`."""
    gain, loss = (differing + change) / 2, (differing - change) / 2
    every = np.ones(len(CLASS_SIZES))
    return draw(gain * every, loss * every, times, repeats)["both"]


def one_class_fell(differing: float, fall: float, which: int, times: int) -> dict[str, float]:
    """Fractions of candidates that pass, if one class fell and no other class changed."""
    rates = np.full(len(CLASS_SIZES), differing / 2)
    losses = rates.copy()
    losses[which] += fall
    return draw(rates, losses, times)


def worst_allowed(images: int, gain: float) -> dict[str, float]:
    """How often a candidate that is worse by the whole margin passes, enumerated.

    Args:
        images: Number of test images.
        gain: Probability that only the candidate recognises an image.
    """
    margin = MARGINS.accuracy_margin / 100
    shares = [gain, gain + margin, 1 - 2 * gain - margin]
    found = {"score": 0.0, "bootstrap": 0.0}
    most = int(images * (gain + margin) + 6 * np.sqrt(images * (gain + margin))) + 3
    for gained, lost in product(range(most), repeat=2):
        chance = float(multinomial.pmf([gained, lost, images - gained - lost], images, shares))
        if chance < 1e-6:
            continue
        changed = differences(gained, lost, images)
        found["score"] += chance * (paired_interval(changed)[0] >= -margin)
        found["bootstrap"] += chance * (mean_interval(changed)[0] >= -margin)
    return found


def calibrated(
    labels: npt.NDArray[np.int64], signal: float, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Probabilities of a calibrated model: Bayes' rule for a label seen through normal noise."""
    seen = generator.standard_normal((len(labels), len(CLASS_SIZES)))
    seen[np.arange(len(labels)), labels] += signal
    powers = np.exp(signal * (seen - seen.max(axis=1, keepdims=True)))
    answers: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return answers


def calibration_passes(
    images: int, sharpness: float, times: int, signal: float = 2.0
) -> dict[str, float]:
    """How often the gate's check of the calibration error passes.

    Args:
        images: Number of test images.
        sharpness: Power of the candidate's probabilities; 1 keeps the candidate calibrated, and
            more makes it overconfident.
        times: Number of test splits.
        signal: Distance of a label from the other labels, in standard deviations of the noise.
    """
    generator = np.random.default_rng(0)

    def pair(count: int) -> tuple[Any, Any, Any]:
        labels = generator.integers(len(CLASS_SIZES), size=count)
        ours, theirs = (calibrated(labels, signal, generator) for _ in range(2))
        ours **= sharpness
        ours /= ours.sum(axis=1, keepdims=True)
        return ours.astype(np.float32), theirs.astype(np.float32), labels

    def rise(ours: Any, theirs: Any, labels: Any) -> float:
        return calibration_error(ours, labels) - calibration_error(theirs, labels)

    rises, passed = [], 0
    for _ in range(times):
        drawn = pair(images)
        rises.append(rise(*drawn))
        passed += rises[-1] <= MARGINS.calibration_margin or calibration_interval(*drawn)[0] <= 0
    return {
        "true_rise": rise(*pair(200_000)),
        "mean_measured_rise": float(np.mean(rises)),
        "passes": passed / times,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--times", type=int, default=4000, help="test splits of each case")
    times = options.parse_args().times
    smallest, largest = 0, len(CLASS_SIZES) - 1
    save(
        "gate_power",
        {
            "test_images": sum(CLASS_SIZES),
            "times": times,
            "passes_by_differing_and_change": {
                f"{differing:.1%}": {
                    f"{100 * change:+g}": changed_everywhere(differing, change, times)
                    for change in CHANGES
                    if abs(change) <= differing
                }
                for differing in DIFFERING
            },
            "equal_model_passes_by_test_images": {
                str(repeats * sum(CLASS_SIZES)): {
                    f"{differing:.1%}": changed_everywhere(differing, 0.0, times, repeats)
                    for differing in DIFFERING
                }
                for repeats in (1, 2, 4)
            },
            "fall_of_one_class": {
                f"{CLASS_SIZES[which]} images": {
                    f"{differing:.1%}": {
                        f"{100 * fall:g}": one_class_fell(differing, fall, which, times)
                        for fall in FALLS
                    }
                    for differing in (0.01, 0.02, 0.03)
                }
                for which in (smallest, largest)
            },
            "worse_by_the_margin_passes": {
                f"{images} images, gains {gain:.1%}": worst_allowed(images, gain)
                for images in (90, 400)
                for gain in (0.0, 0.005, 0.02)
            },
            "calibration": {
                f"{images} images, sharpness {sharpness:g}": calibration_passes(
                    images, sharpness, max(1, times // 20)
                )
                for images in (90, 400)
                for sharpness in (1, 1.5, 2)
            },
        },
    )


if __name__ == "__main__":
    main()
