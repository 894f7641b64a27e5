"""Kinds of slow tests. A test without a kind is fast, and `make test-fast` runs fast tests."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

KINDS = frozenset(
    {
        "browser",
        "container",
        "long",
        "network",
        "pipeline",
        "process",
        "service",
        "slow",
        "training",
    }
)
"""The markers that pyproject.toml describes, except ``fast``."""

KIND_OF_FIXTURE = {
    "accurate": "slow",
    "browser": "browser",
    "checkout": "pipeline",
    "engine": "container",
    "export_once": "slow",
    "fit": "training",
    "good": "slow",
    "hub_user": "process",
    "on_mlflow": "training",
    "on_tensorboard": "training",
    "run": "training",
    "start_service": "service",
    "template": "pipeline",
    "toy": "slow",
    "tracked": "training",
    "train_once": "training",
    "wheel": "process",
}
"""The kind of the tests that use a fixture directly or through other fixtures, by fixture."""


def mark(item: pytest.Item) -> None:
    """Mark a test with the kinds of its fixtures, or as ``fast`` if the test has no kind."""
    for fixture in KIND_OF_FIXTURE.keys() & set(getattr(item, "fixturenames", ())):
        item.add_marker(KIND_OF_FIXTURE[fixture])
    if not KINDS & {marker.name for marker in item.iter_markers()}:
        item.add_marker("fast")


def refuse_what_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a fast test that trains a model or starts eurosat or DVC in a process."""
    from eurosat.models.classifier import EuroSATClassifier

    start = subprocess.Popen.__init__

    def start_light(process: Any, command: Any, *arguments: Any, **options: Any) -> None:
        first, *others = map(str, [command] if isinstance(command, str) else command)
        program = Path(first).name
        # Libraries start Python too: jsonargparse starts Python to find type stubs.
        runs_eurosat = program.startswith("python") and any("eurosat" in word for word in others)
        if runs_eurosat or program in ("eurosat", "dvc"):
            pytest.fail(f"this test starts {program}: mark it with pytest.mark.process")
        start(process, command, *arguments, **options)

    def step(*_: Any) -> None:
        pytest.fail("this test trains a model: mark it with pytest.mark.training")

    monkeypatch.setattr(subprocess.Popen, "__init__", start_light)
    monkeypatch.setattr(EuroSATClassifier, "training_step", step)
