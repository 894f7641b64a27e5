"""Clustered traffic is found, thinned and said."""

from dataclasses import replace

import numpy as np
import pytest

from eurosat.monitoring.drift import assess, select
from eurosat.monitoring.drift.clusters import LONGEST, find_clusters
from eurosat.monitoring.log.reader import PredictionLog
from tests.monitoring.drift.samples import NAMES, joined, known_log, known_reference


def clustered(count: int, size: int, seed: int) -> PredictionLog:
    """A log in which every place is sent ``size`` times in a row, with small differences."""
    log = known_log(count, seed)
    same = np.arange(count) // size * size
    rng = np.random.default_rng(seed)

    def near(values: np.ndarray) -> np.ndarray:
        return (values[same] + 0.3 * rng.normal(size=values.shape)).astype(np.float32)

    return replace(
        log,
        statistics=near(log.statistics),
        probabilities=log.probabilities[same],
        embedding=near(log.embedding),
    )


@pytest.mark.parametrize("seed", range(10))
def test_independent_requests_are_not_clustered(seed: int) -> None:
    found = find_clusters(select(known_log(300, seed), known_reference()))
    assert found.stride == 1
    assert found.similarity < 0.15


@pytest.mark.parametrize(("size", "least"), [(2, 2), (5, 4), (10, 8), (20, 15)])
def test_the_stride_is_about_the_size_of_the_clusters(size: int, least: int) -> None:
    found = find_clusters(select(clustered(300, size, 1), known_reference()))
    assert least <= found.stride <= size + 1
    assert found.similarity > 0.3


def test_the_stride_of_two_callers_in_turn_covers_both() -> None:
    one, two = clustered(150, 10, 1), clustered(150, 10, 2)
    order = np.arange(300).reshape(2, 150).T.ravel()
    log = joined(one, two)
    columns = {name: getattr(log, name)[order] for name in ("statistics", "probabilities")}
    found = find_clusters(select(replace(log, **columns), known_reference()))
    assert 14 <= found.stride <= LONGEST


def test_a_change_within_a_window_is_not_taken_for_clusters() -> None:
    log = joined(known_log(140, 1), known_log(160, 2, shift=3.0))
    assert find_clusters(select(log, known_reference())).stride == 1


def test_clusters_do_not_alarm_and_are_said() -> None:
    reference = known_reference()
    traffic = select(clustered(6000, 10, 3), reference)
    naive = sum(
        assess(reference, traffic.rows(slice(start, start + 99)), NAMES).verdict == "drift"
        for start in range(0, 600, 100)
    )
    assert naive == 0  # below 100 images nothing is judged
    found = assess(reference, traffic, NAMES)
    assert [window.drift for window in found.windows] == [False] * len(found.windows)
    assert all(window.requests > 7 * window.pictures for window in found.windows)
    assert "The traffic is clustered" in found.notes[-1]


def test_few_independent_images_in_many_requests_are_too_few() -> None:
    reference = known_reference()
    found = assess(reference, select(clustered(600, 10, 4), reference), NAMES)
    assert found.verdict == "too few to say"
    assert "in 600 clustered requests" in found.sentence
