"""The metric of a trial of Vertex AI."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Run


def test_a_trial_tells_its_metrics_after_every_epoch(
    run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hypertune" / "output.metrics"
    monkeypatch.setenv("CLOUD_ML_TRIAL_ID", "7")
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(file))
    run("fit", "--trainer.max_epochs=2", "--test_after_fit=false")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    measured = [line for line in lines if "val_accuracy" in line]
    assert len(measured) == 2
    assert {line["trial"] for line in lines} == {"7"}
    assert 0 <= float(measured[-1]["val_accuracy"]) <= 1
    assert int(measured[0]["global_step"]) < int(measured[1]["global_step"])
