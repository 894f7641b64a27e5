"""The expected calibration error against torchmetrics, of all images and of resamples."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from eurosat.calibration import CalibrationError
from eurosat.metrics import calibration_error


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of 500 images and ten classes, some entirely sure, and the labels."""
    generator = np.random.default_rng(0)
    labels = generator.integers(10, size=500)
    logits = 3 * generator.standard_normal((500, 10))
    logits[np.arange(500), labels] += 6
    probabilities = torch.from_numpy(logits).softmax(dim=1).float().numpy()
    # Exactly 1 and wrong, beside 0.95 and right: torchmetrics keeps the two in separate bins.
    probabilities[:200] = np.eye(10, dtype=np.float32)[0]
    probabilities[100:200, :2] = (0.95, 0.05)
    labels[:100], labels[100:200] = 1, 0
    return probabilities, labels


def test_it_is_the_error_of_torchmetrics(answers: tuple[np.ndarray, np.ndarray]) -> None:
    expected = multiclass_calibration_error(
        *map(torch.from_numpy, answers), num_classes=10, n_bins=15, norm="l1"
    )
    assert calibration_error(*answers) == pytest.approx(float(expected), abs=1e-6)
    assert calibration_error(*answers) > 0.1


def test_a_resample_has_the_error_of_its_images(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = answers
    correct = probabilities.argmax(axis=1) == labels
    error = CalibrationError(probabilities.max(axis=1), correct)
    rows = np.random.default_rng(1).integers(500, size=(3, 50))
    expected = [calibration_error(probabilities[row], labels[row]) for row in rows]
    assert error.of_rows(rows) == pytest.approx(expected)
    assert error.overall() == calibration_error(probabilities, labels)


def test_no_image_has_no_error() -> None:
    assert CalibrationError(np.empty(0, np.float32), np.empty(0, bool)).overall() == 0
