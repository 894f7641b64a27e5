"""Windows, the alarm, estimates, and the files of the report."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eurosat.errors import DriftError
from eurosat.monitoring.drift import Assessment, assess, select
from eurosat.monitoring.drift.detectable import smallest_detectable
from eurosat.monitoring.drift.families import run_families
from eurosat.monitoring.drift.page import write_assessment
from eurosat.monitoring.log.reader import PredictionLog
from tests.monitoring.drift.samples import (
    CLASSES,
    MODEL,
    NAMES,
    draw,
    joined,
    known_log,
    known_reference,
)

pytestmark = pytest.mark.slow

REFERENCE = known_reference()


def assessed(*logs: PredictionLog, size: int = 300) -> Assessment:
    return assess(REFERENCE, select(joined(*logs), REFERENCE), NAMES, size=size)


def test_two_windows_in_a_row_alarm() -> None:
    quiet, shifted = known_log(300, 1), known_log(300, 2, shift=1.0)
    again = known_log(300, 3, shift=1.0)
    assert assessed(quiet).verdict == "quiet"
    assert assessed(quiet, shifted).verdict == "drift"
    assert not assessed(quiet, shifted).alarm
    assert assessed(quiet, shifted, again).verdict == "alarm"
    assert assessed(shifted, again, quiet).verdict == "quiet"
    assert assessed(shifted, quiet, again).verdict == "drift"


def test_fewer_than_a_hundred_images_say_nothing() -> None:
    found = assessed(known_log(99, 1, shift=5.0))
    assert found.verdict == "too few to say"
    assert found.sentence == (
        "Too few to say: there are 99 independent images, and at least 100 are needed."
    )
    assert found.detectable is None
    assert assessed(known_log(100, 1, shift=5.0)).verdict == "drift"


def test_the_rest_of_a_log_is_a_window_if_it_is_large_enough() -> None:
    assert [window.pictures for window in assessed(known_log(399, 1)).windows] == [300]
    assert [window.pictures for window in assessed(known_log(400, 1)).windows] == [300, 100]


def test_a_window_below_a_hundred_images_is_refused() -> None:
    with pytest.raises(DriftError, match="choose a --window of at least 100"):
        assessed(known_log(300, 1), size=99)


def test_the_accuracy_of_quiet_traffic_is_estimated() -> None:
    truths = []
    for seed in range(1, 6):
        log = known_log(300, seed)
        (window,) = assessed(log).windows
        truth = np.mean(log.probabilities.argmax(axis=1) == draw(300, seed)["labels"])
        accuracy = window.accuracy
        truths.append(accuracy.low <= truth <= accuracy.high)
        assert accuracy.value == pytest.approx(truth, abs=0.05)
    assert sum(truths) >= 4


def test_the_accuracy_cannot_be_estimated_under_drift() -> None:
    (window,) = assessed(known_log(300, 1, shift=1.0)).windows
    assert window.accuracy.value is None
    assert window.accuracy.reason.startswith("cannot be estimated: drift of statistics")


def test_few_embeddings_are_gathered_over_windows_and_tested_once() -> None:
    logs = []
    for seed, count in enumerate((60, 30, 20, 90)):
        log = known_log(300, seed)
        embedding = log.embedding[:, ::-1].copy()
        embedding[count:] = np.nan
        logs.append(replace(log, embedding=embedding))
    windows = assessed(*logs).windows
    results = [window.families[3] for window in windows]
    assert [family.drift for family in results] == [False, False, True, False]
    assert "has 60 embeddings since the last test" in results[0].reason
    assert "has 90 embeddings since the last test" in results[1].reason
    assert "has 90 embeddings since the last test" in results[3].reason


def test_the_fractions_of_the_true_classes_are_estimated() -> None:
    truth = (0.5, 0.3, 0.2, 0.0)
    labels = np.repeat(np.arange(4), [300, 180, 120, 0])
    labels = np.random.default_rng(0).permutation(labels)
    found = assessed(known_log(600, 1, labels=labels), size=600).windows[-1].fractions
    assert [entry.name for entry in found] == list(CLASSES)
    assert sum(entry.value for entry in found) == pytest.approx(1)
    for entry, fraction in zip(found, truth, strict=True):
        assert entry.value == pytest.approx(fraction, abs=0.04)
        assert entry.low - 0.01 <= fraction <= entry.high + 0.01


def test_fractions_of_a_class_without_an_image_in_the_reference_are_not_estimated() -> None:
    reference = replace(REFERENCE, labels=np.minimum(REFERENCE.labels, 2))
    found = assess(reference, select(known_log(300, 1), reference), NAMES)
    assert found.windows[-1].fractions == ()


def test_the_smallest_detectable_change_is_found_in_nine_of_ten_windows() -> None:
    normal = np.random.default_rng(0)
    reference = replace(REFERENCE, statistics=normal.normal(size=(1000, 8)).astype(np.float32))
    shift = smallest_detectable(reference, 300).shift
    assert 0.4 < shift < 0.5
    assert smallest_detectable(reference, 100).shift > 1.4 * shift
    found = 0
    for seed in range(40):
        log = known_log(300, seed)
        values = np.random.default_rng(1000 + seed).normal(size=(300, 8)).astype(np.float32)
        values[:, 0] += shift
        log = replace(log, statistics=values, embedding=np.full((300, 16), np.nan, np.float32))
        (statistics, *_) = run_families(
            reference, select(log, reference), np.zeros((0, 16), np.float32), NAMES
        )
        found += statistics.drift
    assert found >= 32  # 36 are expected; 31 or fewer have a probability of 2 %


def test_a_class_whose_disappearance_is_not_found_is_named() -> None:
    probabilities = REFERENCE.probabilities.copy()
    rare = np.eye(4, dtype=np.float32)[[3]]
    probabilities[:] = np.eye(4, dtype=np.float32)[np.arange(1000) % 3]
    probabilities[:10] = rare
    found = smallest_detectable(replace(REFERENCE, probabilities=probabilities), 300)
    assert found.classes["River"][0] is None
    low, high = found.classes["Forest"]
    assert 0 < low < 1 / 3 < high < 0.5


def test_the_report_shows_what_moved(tmp_path: Path) -> None:
    found = assessed(known_log(300, 1), known_log(300, 2, shift=1.0), known_log(300, 3, shift=1.0))
    page = write_assessment(found, REFERENCE, tmp_path / "report").read_text("utf-8")
    content = json.loads((tmp_path / "report/drift.json").read_text("utf-8"))
    assert content["verdict"] == "alarm"
    assert content["alarm"] is True
    assert [window["drift"] for window in content["windows"]] == [False, True, True]
    assert NAMES[0] in content["windows"][-1]["families"]["statistics"]["moved"]
    assert content["windows"][-1]["estimated_accuracy"]["value"] is None
    assert content["smallest_detectable_change"]["pictures"] == 300
    assert "Alarm: the two newest windows" in page
    assert page.count("<svg") >= 6
    assert "://" not in page
    assert "cannot be estimated: drift of statistics" in page


def test_the_report_of_too_few_images_says_so(tmp_path: Path) -> None:
    found = assessed(known_log(20, 1))
    page = write_assessment(found, REFERENCE, tmp_path).read_text("utf-8")
    content = json.loads((tmp_path / "drift.json").read_text("utf-8"))
    assert content["verdict"] == "too few to say"
    assert content["too_few"] is True
    assert content["windows"] == []
    assert "Too few to say: there are 20 independent images" in page
    assert "<svg" not in page


def test_the_report_escapes_names(tmp_path: Path) -> None:
    classes = ("<b>", "B", "C", "D")
    reference = replace(REFERENCE, classes=classes)
    log = replace(known_log(300, 1), classes={MODEL: classes})
    found = assess(reference, select(log, reference), NAMES)
    page = write_assessment(found, reference, tmp_path).read_text("utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
