"""Intervals and scores against what is known of them."""

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torchmetrics.functional.classification import multiclass_calibration_error

from eurosat.gate.statistics import (
    brier_score,
    calibration_error,
    calibration_interval,
    log_loss,
    mean_interval,
)


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of 500 images and ten classes, right in about two thirds."""
    generator = np.random.default_rng(0)
    labels = generator.integers(10, size=500)
    logits = generator.standard_normal((500, 10))
    logits[np.arange(500), labels] += 2
    probabilities = torch.from_numpy(3 * logits).softmax(dim=1).float().numpy()
    return probabilities, labels


@pytest.mark.parametrize("confidence", [0.95, 0.995])
def test_the_bootstrap_of_hits_and_misses_is_the_binomial_distribution(confidence: float) -> None:
    hits = np.repeat([1.0, 0.0], [30, 70])
    expected = binom.ppf([(1 - confidence) / 2, (1 + confidence) / 2], 100, 0.3) / 100
    np.testing.assert_allclose(mean_interval(hits, confidence), expected, atol=0.0101)
    assert mean_interval(hits, confidence) == mean_interval(hits, confidence)


def test_the_bootstrap_of_differences_is_as_wide_as_theory_says() -> None:
    differences = np.repeat([1.0, 0.0, -1.0], [20, 2640, 40])
    low, high = mean_interval(differences)
    mean, spread = differences.mean(), 1.96 * differences.std() / np.sqrt(2700)
    assert low == pytest.approx(mean - spread, abs=0.05 * 2 * spread)
    assert high == pytest.approx(mean + spread, abs=0.05 * 2 * spread)


def test_no_difference_is_certain() -> None:
    assert mean_interval(np.zeros(50)) == (0, 0)


def test_the_calibration_error_is_torchmetrics(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = answers
    probabilities[:3] = np.eye(10, dtype=np.float32)[labels[:3]]  # entirely sure
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), 10, n_bins=15, norm="l1"
    )
    assert calibration_error(probabilities, labels) == pytest.approx(float(expected), abs=1e-6)


def test_the_interval_of_calibration_covers_what_was_found(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    probabilities, labels = answers
    unsure = ((probabilities + 0.1) / 2).astype(np.float32)
    assert calibration_interval(probabilities, probabilities, labels) == (0, 0)
    low, high = calibration_interval(unsure, probabilities, labels)
    change = calibration_error(unsure, labels) - calibration_error(probabilities, labels)
    assert 0 < low < change < high


def test_scores_by_hand() -> None:
    probabilities = np.array([[0.5, 0.5], [0.0, 1.0]], np.float32)
    assert brier_score(probabilities, np.array([0, 1])) == pytest.approx(0.25)
    assert log_loss(probabilities, np.array([0, 1])) == pytest.approx(np.log(2) / 2)
    assert 80 < 2 * log_loss(probabilities, np.array([0, 0])) < 90  # and not infinite
