"""The four families of tests, on samples whose distributions are known."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from eurosat.monitoring.drift.families import FAMILIES, Family, run_families, shift_of_distance
from eurosat.monitoring.drift.mmd import mean_discrepancy
from eurosat.monitoring.drift.traffic import select
from eurosat.monitoring.log.reader import PredictionLog
from tests.monitoring.drift.samples import NAMES, known_log, known_reference

pytestmark = pytest.mark.slow


def families(log: PredictionLog) -> dict[str, Family]:
    reference = known_reference()
    traffic = select(log, reference)
    known = traffic.embeddings[np.isfinite(traffic.embeddings).all(axis=1)]
    results = run_families(reference, traffic, known, NAMES)
    assert tuple(family.name for family in results) == FAMILIES
    return {family.name: family for family in results}


def test_independent_images_of_the_same_distribution_are_quiet() -> None:
    drifted = [
        family.name
        for seed in range(1, 5)
        for family in families(known_log(300, seed)).values()
        if family.drift
    ]
    assert drifted == []


def test_a_shift_of_one_statistic_names_the_statistic() -> None:
    log = known_log(300, 1)
    moved = log.statistics.copy()
    moved[:, 3] += 0.8
    found = families(replace(log, statistics=moved))
    assert [test.name for test in found["statistics"].moved] == [NAMES[3]]
    assert found["statistics"].p_value < 0.0025
    assert not found["classes"].drift
    assert not found["embeddings"].drift


def test_less_certain_probabilities_are_drift_of_probabilities_only() -> None:
    log = known_log(300, 2)
    softened = 0.7 * log.probabilities + 0.3 / 4
    found = families(replace(log, probabilities=softened.astype(np.float32)))
    assert found["probabilities"].drift
    assert not found["classes"].drift
    assert not found["statistics"].drift


@pytest.mark.parametrize(("labels", "name"), [((0, 1, 2), "River"), ((0, 1, 2, 3, 3, 3), "River")])
def test_a_missing_and_a_frequent_class_are_found(labels: tuple[int, ...], name: str) -> None:
    drawn = np.random.default_rng(5).choice(labels, size=300)
    found = families(known_log(300, 3, labels=drawn))
    assert name in [test.name for test in found["classes"].moved]


def test_a_change_of_the_features_alone_is_drift_of_embeddings() -> None:
    log = known_log(300, 4)
    found = families(replace(log, embedding=log.embedding[:, ::-1].copy()))
    assert found["embeddings"].drift
    assert not found["statistics"].drift


def test_a_significant_change_below_the_effect_floor_is_no_drift() -> None:
    rng = np.random.default_rng(0)
    reference = replace(known_reference(), statistics=rng.normal(size=(1000, 8)).astype(np.float32))
    log = known_log(20_000, 6)
    shifted = rng.normal(0.17, 1, size=(20_000, 8)).astype(np.float32)
    traffic = select(replace(log, statistics=shifted), reference)
    (statistics, *_) = run_families(reference, traffic, traffic.embeddings, NAMES)
    below = [test for test in statistics.tests if test.effect < 0.2]
    assert any(test.p_value < 0.0025 for test in below)
    assert not any(test.moved for test in below)


def test_a_reference_in_half_precision_is_not_taken_for_a_change() -> None:
    sure = np.full((1300, 4), 1e-5, np.float32)
    sure[np.arange(1300), np.random.default_rng(0).integers(4, size=1300)] = 1 - 3e-5
    reference = replace(known_reference(), probabilities=sure[:1000].astype(np.float16))
    traffic = select(replace(known_log(300, 1), probabilities=sure[1000:]), reference)
    assert not run_families(reference, traffic, traffic.embeddings, NAMES)[1].drift


def test_too_few_embeddings_are_said_and_not_tested() -> None:
    log = known_log(300, 7)
    embedding = log.embedding.copy()
    embedding[99:] = np.nan
    found = families(replace(log, embedding=embedding))["embeddings"]
    assert found.p_value is None
    assert "has 99 embeddings since the last test" in found.reason


def test_the_p_value_of_the_discrepancy_is_uniform_without_a_change() -> None:
    rng = np.random.default_rng(1)
    values = [
        mean_discrepancy(
            rng.normal(size=(120, 4)).astype(np.float32),
            rng.normal(size=(60, 4)).astype(np.float32),
        ).p_value
        for _ in range(60)
    ]
    assert min(values) >= 0.001
    assert 0.35 < np.mean(values) < 0.65
    assert np.mean(np.array(values) < 0.1) < 0.25


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_the_size_of_the_discrepancy_is_the_shift_of_normal_distributions(shift: float) -> None:
    rng = np.random.default_rng(2)
    before = rng.normal(size=(1000, 8)).astype(np.float32)
    after = rng.normal(size=(600, 8)).astype(np.float32)
    after[:, 0] += shift
    found = mean_discrepancy(before, after)
    assert found.p_value == 0.001
    assert found.shift == pytest.approx(shift, rel=0.12)
    assert mean_discrepancy(before, after) == found


def test_the_distance_of_distributions_is_a_shift() -> None:
    distance = 2 * NormalDist().cdf(0.25) - 1  # two normal distributions half a deviation apart
    assert shift_of_distance(distance) == pytest.approx(0.5)
    assert shift_of_distance(1.0) == pytest.approx(6.58, abs=0.01)
