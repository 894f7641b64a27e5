"""The list of metrics: values as torchmetrics has them; a new metric appears in every place."""

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from eurosat import metrics as registry
from eurosat.cli import main
from eurosat.evaluation import write_report
from eurosat.evaluation.predictions import Predictions
from eurosat.metrics import (
    Metric,
    accuracy,
    accuracy_macro,
    brier_score,
    f1_macro,
    log_loss,
    logged_names,
    metric_named,
    metrics,
    register_metric,
    values_of,
)
from eurosat.study.plan import read_study
from eurosat.study.runner import plan_runs
from tests.conftest import CONFIGS, REPOSITORY, Run
from tests.study.test_study import TINY_STUDY

FIXTURE = REPOSITORY / "tests" / "fixtures" / "layout-1" / "run"


@pytest.fixture(autouse=True)
def own_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test add to the list without other tests seeing it."""
    monkeypatch.setattr(registry, "_METRICS", list(metrics()))


CONFIDENCE = Metric(
    "confidence", "Mean <confidence>", lambda p, _: float(p.max(axis=1).mean()), "percent"
)


@pytest.mark.parametrize("labels", [np.arange(200) % 10, np.arange(200) % 3])
def test_values_are_those_of_torchmetrics(labels: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((200, 10)).astype(np.float32)
    logits[np.arange(200), labels] += 1
    logits[:, 9] = -9  # a class that is never predicted, and may be no label either
    probabilities = torch.from_numpy(logits).softmax(dim=1)
    both = probabilities, torch.from_numpy(labels)
    recalls = multiclass_accuracy(*both, 10, average="none")[np.unique(labels)]
    for score, expected in (
        (accuracy, multiclass_accuracy(*both, 10, average="micro")),
        (accuracy_macro, recalls.mean()),
        (f1_macro, multiclass_f1_score(*both, 10, average="macro")),
        (log_loss, torch.nn.functional.cross_entropy(torch.from_numpy(logits), both[1])),
    ):
        assert score(probabilities.numpy(), labels) == pytest.approx(float(expected), rel=1e-5)


def test_the_macro_accuracy_is_the_mean_of_the_accuracies_of_the_classes() -> None:
    """A class that no image has is no part of the mean, even if a prediction names it."""
    labels = np.array([0, 0, 1, 1])
    probabilities = np.eye(4, dtype=np.float32)[[0, 0, 1, 3]]
    names = ["a", "b", "absent", "named"]
    found = Predictions(tuple(names), ["f"] * 4, np.arange(4), labels, probabilities)
    per_class = [value for value in found.per_class_accuracy.values() if value is not None]
    assert accuracy_macro(probabilities, labels) == 0.75 == np.mean(per_class)


def test_scores_by_hand() -> None:
    probabilities = np.array([[0.5, 0.5], [0.0, 1.0]], np.float32)
    assert brier_score(probabilities, np.array([0, 1])) == pytest.approx(0.25)
    assert log_loss(probabilities, np.array([0, 1])) == pytest.approx(np.log(2) / 2)
    assert 80 < 2 * log_loss(probabilities, np.array([0, 0])) < 90  # and not infinite


def test_a_better_model_is_better_by_every_metric() -> None:
    labels = np.arange(100) % 4
    good = np.full((100, 4), 0.02, np.float32)
    good[np.arange(100), labels] = 0.94
    bad = np.roll(good, 1, axis=1)
    for metric in metrics():
        higher = metric.score(good, labels) > metric.score(bad, labels)
        assert metric.better == ("max" if higher else "min")


def test_all_that_a_run_logs_is_on_the_list(trained: Run) -> None:
    columns = (trained.folder / "metrics.csv").read_text().splitlines()[0].split(",")
    logged = [name for name in columns if name.startswith(("train/", "val/", "test/"))]
    assert sorted(logged_names()) == sorted(logged)


def test_a_new_metric_is_found_wherever_metrics_are(
    run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_metric(CONFIDENCE)
    register_metric(Metric("undefined", "Undefined", lambda probabilities, labels: math.nan))
    # The gate computes in float32, and so must the training's test, also where bf16 exists.
    precise = "--trainer.precision=32-true"
    found = run("fit", precise, "--checkpoint.monitor=val/confidence", "--report=true")
    rows = list(csv.DictReader((found.folder / "metrics.csv").read_text().splitlines()))
    assert any(row["val/confidence"] for row in rows)
    (tested,) = (float(row["test/confidence"]) for row in rows if row["test/confidence"])
    assert 0.1 <= tested <= 1

    text = (found.folder / "metrics.json").read_text()
    assert "NaN" not in text
    record = json.loads(text)
    assert record["confidence"] == pytest.approx(tested)
    assert record["undefined"] is None
    report = (found.folder / "report.html").read_text()
    assert f"<dt>Mean &lt;confidence&gt;</dt><dd>{tested:.2%}</dd>" in report
    assert "<dt>Undefined</dt><dd>n/a</dd>" in report

    gate = ["gate", str(found.best), f"--against={found.best}", "--severities=[3]", "--threads=1"]
    assert main([*gate, f"--output={tmp_path / 'gate'}", "--max_latency_ratio=.inf"]) == 0
    content = (tmp_path / "gate" / "gate.json").read_text()
    assert "NaN" not in content
    for which in ("candidate", "baseline"):
        scores = json.loads(content)[which]["metrics"]
        assert scores["confidence"] == pytest.approx(tested)
        assert scores["undefined"] is None
    shown = f"{tested:.2%}"
    assert f"| Mean <confidence> | {shown} | {shown} |" in (tmp_path / "gate/gate.md").read_text()
    html = (tmp_path / "gate" / "gate.html").read_text()
    assert f"Mean &lt;confidence&gt;</th><td>{shown}</td>" in html

    (row,) = study_of([found.folder], tmp_path)
    assert float(row["confidence"]) == record["confidence"]
    assert row["undefined"] == ""

    sweep = yaml.safe_load((CONFIGS / "sweeps" / "random.yaml").read_text())
    sweep["metric"] = {"name": "val/confidence", "goal": "maximize"}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    monkeypatch.chdir(REPOSITORY)  # the sweep names configurations of the repository
    assert main(["sweep", str(tmp_path / "sweep.yaml"), "--check=true"]) == 0


def study_of(folders: list[Path], tmp_path: Path) -> list[dict[str, str]]:
    """The rows of a study whose runs are copies of the given run folders."""
    file, output = tmp_path / "study.yaml", tmp_path / "study"
    axes = {"data.batch_size": [8 + number for number in range(len(folders))]}
    file.write_text(yaml.safe_dump(TINY_STUDY | {"axes": axes}))
    for planned, folder in zip(plan_runs(read_study(file), output), folders, strict=True):
        shutil.copytree(folder, planned.folder / "2026-01-01T00-00-00Z")
    assert main(["study", str(file), f"--output={output}", "--only_results=true"]) == 0
    return list(csv.DictReader((output / "runs.csv").read_text().splitlines()))


@pytest.mark.slow
def test_files_of_other_versions_have_other_metrics(tmp_path: Path) -> None:
    """The older run lacks the newer metric; the newer run has a metric that is unknown here."""
    older, newer = (shutil.copytree(FIXTURE, tmp_path / name) for name in ("older", "newer"))
    record = json.loads((newer / "metrics.json").read_text())
    record["per_class"]["Forest"] = None
    (newer / "metrics.json").write_text(json.dumps({"top <3>": 0.25, "gone": None} | record))
    register_metric(CONFIDENCE)
    report = write_report(older).read_text()
    assert "<dt>Mean &lt;confidence&gt;</dt><dd>n/a</dd>" in report
    assert "<dt>Test accuracy</dt><dd>10.00%" in report
    report = write_report(newer).read_text()
    assert "<dt>top &lt;3&gt;</dt><dd>0.2500</dd>" in report
    assert "<dt>gone</dt><dd>n/a</dd>" in report
    rows = study_of([older, newer], tmp_path)
    assert [row["confidence"] for row in rows] == ["", ""]
    assert [row["top <3>"] for row in rows] == ["", "0.25"]
    assert [float(row["ece"]) for row in rows] == [record["ece"]] * 2


def test_a_run_without_accuracy_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(FIXTURE, tmp_path / "broken")
    (folder / "metrics.json").write_text('{"ece": 0.1}')
    with pytest.raises(AssertionError):
        study_of([folder], tmp_path)
    error = capsys.readouterr().err
    assert "metrics.json has no accuracy: delete the run's folder" in error
    assert "Traceback" not in error


def test_what_is_no_number_is_missing() -> None:
    record: dict[str, Any] = {"accuracy": float("nan"), "loss": True, "per_class": {}, "note": "x"}
    values = values_of(record)
    assert set(values) == {metric.name for metric in metrics()}
    assert set(values.values()) == {None}
    assert metric_named("accuracy").text(None) == metric_named("new").text(float("inf")) == "n/a"


@pytest.mark.parametrize("name", ["accuracy", "per_class", "top 3", "val/x", ""])
def test_a_name_that_cannot_be_used_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"another name|cannot be named"):
        register_metric(Metric(name, "Title", accuracy))
    assert sum(metric.name == name for metric in metrics()) <= 1
