"""What is taken from a prediction log, and what is refused or left out."""

from dataclasses import replace

import numpy as np
import pytest

from eurosat.errors import DriftError
from eurosat.monitoring.drift import assess, select
from tests.monitoring.drift.samples import (
    FEATURES,
    MODEL,
    NAMES,
    START,
    joined,
    known_log,
    known_reference,
)


def test_a_request_counts_once_with_the_image_that_has_an_embedding() -> None:
    log = known_log(6, 1)
    embedding = log.embedding.copy()
    embedding[[0, 2, 3, 4, 5]] = np.nan
    log = replace(
        log,
        id=np.array(["b", "b", "b", "a", "a", "c"]),
        index=np.array([0, 1, 2, 1, 0, 0]),
        time=START + np.array([9.0, 9, 9, 5, 5, 7]),
        embedding=embedding,
    )
    traffic = select(log, known_reference())
    assert traffic.ids.tolist() == ["a", "c", "b"]
    np.testing.assert_array_equal(traffic.statistics, log.statistics[[4, 5, 1]])
    assert np.isfinite(traffic.embeddings).all(axis=1).tolist() == [False, False, True]


def test_a_reference_of_another_model_is_refused() -> None:
    with pytest.raises(DriftError, match="predictions of model-1, and the reference belongs to m2"):
        select(known_log(10, 1), known_reference(version="m2"))


def test_predictions_of_other_models_are_left_out_and_said() -> None:
    log = joined(known_log(40, 1, model="old"), known_log(50, 2))
    traffic = select(log, known_reference())
    assert len(traffic) == 50
    assert traffic.notes == ("40 images were classified by other models (old) and are left out.",)


def test_columns_that_only_another_model_has_are_ignored() -> None:
    log = known_log(50, 1)
    padded = {
        name: np.pad(getattr(log, name), ((0, 0), (0, 3)), constant_values=np.nan)
        for name in ("statistics", "probabilities", "embedding")
    }
    traffic = select(replace(log, **padded), known_reference())
    np.testing.assert_array_equal(traffic.statistics, log.statistics)
    np.testing.assert_array_equal(traffic.embeddings, known_reference().embed(log.embedding))
    assert traffic.notes == ()


def test_other_features_and_other_classes_are_refused() -> None:
    log = known_log(20, 1)
    wide = np.zeros((20, FEATURES + 1), np.float32)
    with pytest.raises(DriftError, match=r"has 17 features an image, and .* has 16.*--reference"):
        select(replace(log, embedding=wide), known_reference())
    with pytest.raises(DriftError, match=r"has 7 statistics an image, and .* has 8"):
        select(replace(log, statistics=log.statistics[:, :7]), known_reference())
    names = {MODEL: tuple(reversed(NAMES))}
    with pytest.raises(DriftError, match=r"has the statistics blue minus red, .* other statistics"):
        select(replace(log, statistic_names=names), known_reference())
    with pytest.raises(DriftError, match=r"has the classes A, B, and .* has other classes"):
        select(replace(log, classes={MODEL: ("A", "B")}), known_reference())


def test_impossible_numbers_and_times_are_left_out_and_said() -> None:
    log = known_log(10, 1)
    statistics, probabilities, time = (
        log.statistics.copy(),
        log.probabilities.copy(),
        log.time.copy(),
    )
    statistics[0, 2] = np.nan
    probabilities[1] *= 2
    time[2], time[3], time[4] = START + 1e6, 10.0, np.nan
    log = replace(log, statistics=statistics, probabilities=probabilities, time=time)
    traffic = select(replace(log, torn=2, dropped=1, foreign=3), known_reference(), now=START + 60)
    assert traffic.ids.tolist() == log.id[5:].tolist()
    assert traffic.notes == (
        "2 lines or objects of the log are cut off or damaged, and lack records.",
        "1 requests are missing, because the service could not log them.",
        "3 lines or files in the log's folder are no records of eurosat.",
        "2 images have statistics or probabilities that are not valid numbers; they are left out.",
        "3 images have times in the future or before 2015: check the clocks; they are left out.",
    )


def test_a_log_without_usable_predictions_is_refused() -> None:
    empty = known_log(0, 1)
    for log in (
        empty,
        replace(
            empty,
            statistics=np.zeros((0, 0), np.float32),
            probabilities=np.zeros((0, 0), np.float32),
            embedding=np.zeros((0, 0), np.float32),
        ),
    ):
        reference = known_reference()
        with pytest.raises(DriftError, match=r"no usable predictions of model-1.*--log_url"):
            assess(reference, select(log, reference), NAMES)


def test_images_without_any_embedding_can_be_compared() -> None:
    log = known_log(100, 1)
    traffic = select(replace(log, embedding=np.zeros((100, 0), np.float32)), known_reference())
    assert len(traffic) == 100
    assert np.isnan(traffic.embeddings).all()
