"""Intervals and scores against what is known of them."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm

from eurosat.evaluation import intervals as statistics
from eurosat.evaluation.intervals import (
    calibration_interval,
    images_to_rule_out,
    mean_interval,
    paired_interval,
    smallest_loss_ruled_out,
)
from eurosat.metrics import calibration_error


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


def changes(gained: int, lost: int, images: int) -> np.ndarray:
    """Differences of two models' answers to so many images."""
    return np.repeat([1.0, -1.0, 0.0], [gained, lost, images - gained - lost])


@pytest.mark.parametrize(("images", "gain"), [(90, 0), (90, 0.02), (400, 0), (400, 0.005)])
def test_a_loss_as_large_as_the_margin_passes_once_in_40_times(images: int, gain: float) -> None:
    margin, times = 0.005, 4000
    shares = [gain, gain + margin, 1 - 2 * gain - margin]
    draws = np.random.default_rng(0).multinomial(images, shares, size=times)
    found, counts = np.unique(draws[:, :2], axis=0, return_counts=True)
    lower_ends = [paired_interval(changes(*pair, images))[0] for pair in found.tolist()]
    passed = counts[np.array(lower_ends) >= -margin].sum() / times
    assert passed < 0.025 + 3 * np.sqrt(0.025 * 0.975 / times)


@pytest.mark.parametrize(
    ("gained", "lost", "images"), [(5, 3, 40), (0, 4, 100), (1, 0, 44), (20, 40, 2700)]
)
@pytest.mark.parametrize("confidence", [0.95, 0.995])
def test_the_paired_interval_is_where_the_score_test_begins_to_reject(
    gained: int, lost: int, images: int, confidence: float
) -> None:
    for end in paired_interval(changes(gained, lost, images), confidence):

        def improbability(share: float, end: float = end) -> float:
            parts = [(gained, share + end), (lost, share)]
            parts.append((images - gained - lost, 1 - 2 * share - end))
            return -sum(count * np.log(part) for count, part in parts if count)

        bounds = (max(0, -end), (1 - end) / 2)
        likeliest = minimize_scalar(
            improbability, bounds=bounds, method="bounded", options={"xatol": 1e-9}
        )
        variance = (2 * likeliest.x + end - end**2) / images
        score = ((gained - lost) / images - end) / np.sqrt(variance)
        assert abs(score) == pytest.approx(norm.ppf((1 + confidence) / 2), rel=1e-3)


def test_shares_are_intervals_of_the_same_kind() -> None:
    differences = np.repeat([0.4, 0.0, -0.2, -0.6], [200, 2000, 250, 250])
    low, high = paired_interval(differences)
    mean, spread = differences.mean(), 1.96 * differences.std() / np.sqrt(2700)
    assert low == pytest.approx(mean - spread, abs=0.05 * spread)
    assert high == pytest.approx(mean + spread, abs=0.05 * spread)
    everything = paired_interval(-np.ones(20))
    assert everything[0] == pytest.approx(-1)
    assert -0.7 < everything[1] < -0.6


def test_nearly_equal_shares_rule_out_no_more_than_equal_ones() -> None:
    nearly = np.zeros(90)
    nearly[0] = -1 / 30
    (low, high), (least, most) = paired_interval(nearly), paired_interval(np.zeros(90))
    assert low < least
    assert high == pytest.approx(most + nearly.mean())


def test_equal_answers_rule_out_what_so_many_images_can() -> None:
    assert smallest_loss_ruled_out(90) == pytest.approx(0.0409, abs=1e-4)
    for images in (90, 2700):
        loss = smallest_loss_ruled_out(images)
        assert paired_interval(np.zeros(images)) == pytest.approx((-loss, loss))
        assert images_to_rule_out(1.0001 * loss) == images
    assert images_to_rule_out(0.005) == 765
    assert images_to_rule_out(0) == np.inf


def test_the_interval_of_calibration_covers_what_was_found(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    probabilities, labels = answers
    unsure = ((probabilities + 0.1) / 2).astype(np.float32)
    assert calibration_interval(probabilities, probabilities, labels) == (0, 0)
    low, high = calibration_interval(unsure, probabilities, labels)
    change = calibration_error(unsure, labels) - calibration_error(probabilities, labels)
    assert 0 < low < change < high


def test_a_sharpened_model_is_seen_on_few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Percentiles of the resamples would let a third of these pass."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    generator = np.random.default_rng(0)
    passed = 0
    for _ in range(60):
        logits = 3 * generator.standard_normal((400, 10))
        calibrated = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        labels = (calibrated.cumsum(axis=1) > generator.random((400, 1))).argmax(axis=1)
        sharper = calibrated**1.6
        sharper /= sharper.sum(axis=1, keepdims=True)
        low, _ = calibration_interval(
            sharper.astype(np.float32), calibrated.astype(np.float32), labels
        )
        passed += low <= 0
    assert passed / 60 < 0.2


def test_wilson_interval_by_hand():
    # 8 of 10: (0.8 + 0.19207 ± 1.96 sqrt(0.016 + 0.0096037)) / 1.38415
    assert statistics.wilson_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert statistics.wilson_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert statistics.wilson_interval(0.0, 10)[0] == 0.0
