"""What passes and what does not, on answers made by hand."""

import inspect

import numpy as np
import pytest

from eurosat.errors import GateError
from eurosat.gate.checks import Check, check, class_changes, corruption_changes
from eurosat.gate.corruptions import corruptions as applied_corruptions
from eurosat.gate.evaluate import Answers, Latency
from eurosat.gate.measurement import measure, relative_corruption_error
from eurosat.gate.thresholds import Thresholds
from eurosat.tools.gate import gate

CLASSES = ("wood", "water")
CORRUPTIONS = [corruption.name for corruption in applied_corruptions()]
LABELS = np.repeat([0, 1], 500)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of these wide differences need no 10,000 resamples."""
    monkeypatch.setattr("eurosat.evaluation.intervals.RESAMPLES", 1000)


def answers(
    wrong: int = 0, wrong_corrupted: int = 0, confidence: float = 0.9, start: int = 0
) -> Answers:
    """Answers with so many mistakes in a row, the first ones of the first class if not said."""
    correct = (np.arange(1000) < start) | (np.arange(1000) >= start + wrong)
    predicted = np.where(correct, LABELS, 1 - LABELS)
    probabilities = np.full((1000, 2), 1 - confidence, np.float32)
    probabilities[np.arange(1000), predicted] = confidence
    corrupted = np.tile(np.arange(1000) >= wrong_corrupted, (2, 1))
    return Answers(probabilities, correct, dict.fromkeys(CORRUPTIONS, corrupted))


def checks(
    candidate: Answers,
    baseline: Answers,
    allowed: Thresholds | None = None,
    latency: Latency | None = None,
    size: int = 100,
    identical: bool = False,
) -> dict[str, Check]:
    """The checks by name."""
    allowed = allowed or Thresholds()
    figures = (
        measure(candidate, latency or Latency(1, 10), size, LABELS, CLASSES),
        measure(baseline, Latency(1, 10), 100, LABELS, CLASSES),
    )
    changes = class_changes(candidate, baseline, LABELS, CLASSES, allowed.class_margin)
    corruptions = corruption_changes(
        candidate, baseline, applied_corruptions(), allowed.corruption_margin
    )
    both = (candidate, baseline)
    found = check(both, figures, changes, corruptions, LABELS, allowed, identical=identical)
    return {entry.name: entry for entry in found}


def failed(found: dict[str, Check]) -> list[str]:
    return [name for name, entry in found.items() if not entry.passed]


def test_the_same_file_passes_even_where_nothing_is_allowed() -> None:
    nothing = Thresholds(0, 0, 0, 1, 1, 0, 0)
    found = checks(answers(7, 9), answers(7, 9), nothing, identical=True)
    assert failed(found) == []
    assert found["accuracy"].rule == "the same file"


def test_equal_answers_of_two_files_may_be_too_few_to_tell() -> None:
    found = checks(answers(7), answers(7), Thresholds(accuracy_margin=0.3))
    assert failed(found) == ["accuracy"]
    assert found["accuracy"].note == (
        "1,000 test images are too few to tell: even equal answers to all of them do not rule out "
        "a loss of 0.3 points, which takes 1,277 images. Test on more images, or allow more with "
        "--accuracy_margin, from 0.4 on"
    )
    assert failed(checks(answers(7), answers(7), Thresholds(accuracy_margin=0.4))) == []
    none = checks(answers(7), answers(7), Thresholds(accuracy_margin=0))["accuracy"]
    assert "do not rule out a loss of 0 points. Test" in none.note


def test_a_loss_within_the_margin_fails_while_it_may_be_larger() -> None:
    found = checks(answers(4), answers())["accuracy"]  # 0.4 points
    assert found.change == pytest.approx(-0.004)
    assert found.interval is not None
    assert found.interval[0] < -0.005
    assert not found.passed
    assert found.note == ""
    assert checks(answers(4), answers(), Thresholds(accuracy_margin=1.1))["accuracy"].passed


def test_mistakes_that_the_baseline_makes_too_do_not_count() -> None:
    found = checks(answers(400), answers(400))["accuracy"]
    assert found.interval == checks(answers(), answers())["accuracy"].interval
    assert found.bootstrap == (0, 0)


def test_a_class_fails_by_more_than_the_margin_and_beyond_doubt() -> None:
    lost = checks(answers(20), answers())  # 4 points of the class
    assert "recall, wood" in failed(lost)
    assert lost["recall, wood"].change == pytest.approx(-0.04)
    wide = Thresholds(class_margin=5)
    assert checks(answers(20), answers(), wide)["recall, wood"].passed
    narrow = Thresholds(class_margin=0.1)
    assert checks(answers(2), answers(), narrow)["recall, wood"].passed  # may be chance
    assert not checks(answers(20), answers(), narrow)["recall, wood"].passed


def test_a_class_without_images_is_left_out() -> None:
    ours = answers()
    names = (*CLASSES, "ice")
    changes = class_changes(ours, ours, LABELS, names, 2)
    assert [change.name for change in changes] == list(CLASSES)
    assert measure(ours, Latency(1, 1), 1, LABELS, names).recall["ice"] is None


def test_calibration() -> None:
    found = checks(answers(confidence=0.93), answers(confidence=0.95))["calibration error"]
    assert found.change == pytest.approx(0.02, abs=1e-6)
    strict, wide = Thresholds(calibration_margin=0.01), Thresholds(calibration_margin=0.03)
    assert not checks(answers(confidence=0.93), answers(confidence=0.95), strict)[found.name].passed
    assert checks(answers(confidence=0.93), answers(confidence=0.95), wide)[found.name].passed


def test_calibration_that_may_be_worse_by_chance_passes() -> None:
    allowed = Thresholds(calibration_margin=0.005)
    found = checks(answers(92, start=500), answers(100), allowed)["calibration error"]
    assert found.change == pytest.approx(0.008, abs=1e-6)
    assert found.interval is not None
    assert found.interval[0] < 0
    assert found.passed


def test_costs_are_ratios() -> None:
    same = answers()
    assert failed(checks(same, same, latency=Latency(1.5, 15), size=150)) == []
    assert failed(checks(same, same, latency=Latency(1.51, 10))) == ["time of one image"]
    assert failed(checks(same, same, latency=Latency(1, 15.1))) == ["time of 64 images"]
    assert failed(checks(same, same, size=151)) == ["size"]
    anything = Thresholds(max_size_ratio=float("inf"))
    assert failed(checks(same, same, anything, size=10**9)) == []


def test_robustness() -> None:
    assert failed(checks(answers(0, 15), answers())) == ["accuracy, corrupted"]
    found = checks(answers(0, 30), answers(0, 10))["accuracy, corrupted"]
    assert (found.candidate, found.baseline) == pytest.approx((0.97, 0.99))
    ours, theirs = (
        measure(answers(0, wrong), Latency(1, 1), 1, LABELS, CLASSES) for wrong in (30, 10)
    )
    assert relative_corruption_error(ours, theirs) == pytest.approx(3)
    perfect = measure(answers(), Latency(1, 1), 1, LABELS, CLASSES)
    assert relative_corruption_error(ours, perfect) is None


def test_a_gain_under_one_corruption_does_not_pay_for_a_loss_under_another() -> None:
    same = answers()
    perfect, worse = (np.tile(np.arange(1000) >= wrong, (2, 1)) for wrong in (0, 300))
    ours, theirs = (
        Answers(
            same.probabilities, same.correct, dict.fromkeys(CORRUPTIONS, perfect) | {worst: worse}
        )
        for worst in ("haze", "jpeg")
    )
    found = checks(ours, theirs)
    assert found["accuracy, corrupted"].change == pytest.approx(0)
    assert "accuracy, haze" in failed(found)
    assert found["accuracy, haze"].change == pytest.approx(-0.3)
    wide = Thresholds(robustness_margin=5, corruption_margin=30)
    assert failed(checks(ours, theirs, wide)) == []
    by_name = {
        change.name: change for change in corruption_changes(ours, theirs, applied_corruptions(), 2)
    }
    assert [name for name, change in by_name.items() if not change.passed] == ["haze"]
    assert by_name["JPEG"].change == pytest.approx(0.3)
    assert by_name["JPEG"].images == 1000


@pytest.mark.parametrize("name", Thresholds.__dataclass_fields__)
@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_thresholds_are_numbers_from_0(name: str, value: float) -> None:
    with pytest.raises(GateError, match=f"--{name} must be 0 or more"):
        Thresholds(**{name: value})


def test_every_threshold_is_an_option_with_its_default() -> None:
    options = inspect.signature(gate).parameters
    for name, field in Thresholds.__dataclass_fields__.items():
        assert options[name].default == field.default
