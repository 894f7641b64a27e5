"""A profile gives every moment to its phase, and names what holds a training up."""

import gzip
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations
import pytest
import yaml
from jsonargparse import dict_to_namespace
from lightning.pytorch.callbacks import Callback

from eurosat.cli import main
from eurosat.evaluation.profile import PHASES
from eurosat.evaluation.profile_advice import advise
from eurosat.training.profiler import TRACED_STEPS, WARM_UP_STEPS
from tests.conftest import CONFIGS, SMALL_MODEL, TINY, Run

QUICK = ("--test_after_fit=false", "--trainer.max_epochs=3", "--data.batch_size=16")
STEPS = 3 * 6
"""Steps of these: 100 patches to train on, 16 at a time, three times."""


class Clock:
    """Time that passes only where a test says so, but for a microsecond at each look at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1e-6
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The profiler's clock, which is this file's as well."""
    clock = Clock()
    monkeypatch.setattr("eurosat.training.profiler.time", clock)
    monkeypatch.setattr("tests.training.test_profiler.time", clock)
    return clock


class SlowAugmentation(albumentations.ImageOnlyTransform):
    """Does nothing, for five milliseconds."""

    def apply(self, img: Any, **_: Any) -> Any:
        time.sleep(5e-3)
        return img


class SlowCallback(Callback):
    """Does nothing, for a fifth of a second a step."""

    def on_train_batch_end(self, *_: Any) -> None:
        time.sleep(0.2)


class SlowModel(Callback):
    """Makes a training's forward pass 30 milliseconds longer, and its backward pass 50."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        pl_module.backbone.register_forward_hook(lambda *_: time.sleep(0.03))
        pl_module.backbone.register_full_backward_hook(lambda *_: time.sleep(0.05))


class Failing(Callback):
    """Ends a training in its eleventh step."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 10:
            raise RuntimeError("enough")


def test_the_phases_add_up_to_the_time_of_the_loop(
    run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = run("fit", *QUICK, "--profile", "--report=true")
    profile = fitted.json("profile.json")
    assert profile["steps"] == STEPS - WARM_UP_STEPS
    assert profile["warm_up"]["steps"] == WARM_UP_STEPS
    assert profile["trace"] is None
    assert profile["batch_size"] == 16
    assert profile["images_per_second"] > 0
    assert list(profile["phases"]) == list(PHASES)
    phases = profile["phases"].values()
    assert sum(phase["share"] for phase in phases) == pytest.approx(1)
    steady = sum(phase["seconds"] for phase in phases)
    assert steady + profile["warm_up"]["seconds"] == pytest.approx(profile["seconds"])
    assert profile["seconds"] < fitted.json("run.json")["wall_seconds"]
    for name, phase in profile["phases"].items():
        if name in ("validation", "checkpoint"):
            assert phase["seconds"] > 0
        else:
            assert 0 < phase["median_ms"] <= phase["p95_ms"]
    shown = capsys.readouterr().out
    heading = f"Bottleneck: {' and '.join(profile['bottleneck']['phases'])}"
    assert heading in shown
    assert all(f"  - {advice}\n" in shown for advice in profile["bottleneck"]["advice"])
    report = (fitted.folder / "report.html").read_text()
    assert heading in report
    assert 'href="profile.json"' in report


def test_a_run_without_the_flag_has_no_profile(trained: Run) -> None:
    assert not (trained.folder / "profile.json").exists()
    assert "Bottleneck" not in (trained.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "step", "advice"),
    [
        (
            [
                '--data.augmentations=[{"class_path": '
                '"tests.training.test_profiler.SlowAugmentation", "init_args": {"p": 1}}]'
            ],
            {"data": 16 * 5},
            "use fewer or faster augmentations: --data.augmentations (now SlowAugmentation)",
        ),
        (
            ["--trainer.callbacks=tests.training.test_profiler.SlowModel"],
            {"forward": 30, "backward": 50},
            "choose a smaller backbone: --model.backbone (now patchnet)",
        ),
        (
            ["--trainer.callbacks=tests.training.test_profiler.SlowCallback"],
            {"logging": 200},
            "use fewer callbacks: --trainer.callbacks (now SlowCallback)",
        ),
    ],
    ids=["data", "model", "logging"],
)
@pytest.mark.usefixtures("clock")
def test_what_is_slow_is_the_bottleneck(
    options: list[str], step: dict[str, int], advice: str, run: Callable[..., Run]
) -> None:
    """Milliseconds count for the phase that they pass in, and for no other."""
    profile = run("fit", *QUICK, "--profile", *options).json("profile.json")
    for name, phase in profile["phases"].items():
        if name not in ("validation", "checkpoint"):
            assert phase["median_ms"] == pytest.approx(step.get(name, 0), abs=0.1), name
    assert profile["bottleneck"]["phases"] == list(step)
    assert advice in profile["bottleneck"]["advice"]


def test_the_clock_is_a_real_one(run: Callable[..., Run]) -> None:
    options = "--trainer.callbacks=tests.training.test_profiler.SlowCallback"
    phases = run("fit", *QUICK, "--profile", options).json("profile.json")["phases"]
    assert phases["logging"]["median_ms"] >= 200
    assert phases["logging"]["seconds"] >= 0.2 * (STEPS - WARM_UP_STEPS)


def test_a_trace_shows_training_steps(run: Callable[..., Run]) -> None:
    fitted = run("fit", *QUICK, "--profile=trace", "--report=true")
    with gzip.open(fitted.folder / "trace.json.gz") as file:
        events = json.load(file)["traceEvents"]
    names = [event.get("name", "") for event in events if event.get("cat") == "user_annotation"]
    assert sum(name.endswith(".training_step") for name in names) == TRACED_STEPS
    assert sum(name.endswith(".backward") for name in names) == TRACED_STEPS
    assert any(event.get("name") == "aten::conv2d" for event in events)
    profile = fitted.json("profile.json")
    assert profile["steps"] == STEPS - WARM_UP_STEPS - TRACED_STEPS
    apart = profile["warm_up"]["seconds"] + profile["trace"]["seconds"]
    steady = sum(phase["seconds"] for phase in profile["phases"].values())
    assert apart + steady == pytest.approx(profile["seconds"])
    assert 'href="trace.json.gz"' in (fitted.folder / "report.html").read_text()


def test_a_training_that_fails_leaves_the_profile_of_what_it_did(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    failing = "--trainer.callbacks=tests.training.test_profiler.Failing"
    with pytest.raises(RuntimeError, match="enough"):
        run("fit", *QUICK, "--profile", failing, "--report=true")
    (profile,) = tmp_path.glob("outputs/*/*/profile.json")
    assert json.loads(profile.read_text())["steps"] == 11 - WARM_UP_STEPS
    assert "Bottleneck" in profile.with_name("report.html").read_text()


def test_too_short_a_training_says_why_it_has_no_profile(
    run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = run("fit", "--trainer.limit_train_batches=2", "--profile")
    assert (
        "no profile: the run made 2 steps, and the first 3 steps are not counted"
        in capsys.readouterr().err
    )
    assert not (fitted.folder / "profile.json").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--trainer.profiler=simple", "--trainer.profiler sets another"),
        ("--trainer.fast_dev_run=true", "more than fast_dev_run's one batch"),
    ],
)
def test_settings_that_exclude_a_profile_are_named(
    option: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *TINY, *SMALL_MODEL, "--profile", option]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_only_fit_has_a_profile(
    verb: str, trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [verb, *TINY, f"--ckpt_path={trained.best}", f"--output_root={tmp_path}"]
    assert main([*arguments, "--profile"]) == 2
    assert f"--profile shows where the time of fit goes, and {verb}" in capsys.readouterr().err


def test_every_advice_names_options_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", f"--config={CONFIGS / 'fast.yaml'}", "--profile", "--print_config"])
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["profile"] == "phases"
    for phase in PHASES:
        advice = list(
            advise([phase], dict_to_namespace(values), device="cuda", precision="32-true")
        )
        assert advice
        for option in re.findall(r"--([\w.]+)", " ".join(advice)):
            value = values
            for name in option.split("."):
                assert name in value, option
                value = value[name]
