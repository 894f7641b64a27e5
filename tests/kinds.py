"""Kinds of tests by what they cost. A test of no kind is fast, and `make test-fast` runs it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

KINDS = frozenset({"browser", "network", "pipeline", "process", "service", "slow", "training"})
"""The markers that pyproject.toml describes, but for ``fast``."""

KIND_OF_FIXTURE = {
    "accurate": "slow",
    "browser": "browser",
    "checkout": "pipeline",
    "export_once": "slow",
    "fit": "training",
    "good": "slow",
    "on_mlflow": "training",
    "on_tensorboard": "training",
    "run": "training",
    "start_service": "service",
    "template": "pipeline",
    "toy": "slow",
    "tracked": "training",
    "wheel": "process",
}
"""Kinds that a test has because it uses a fixture, directly or by way of other fixtures."""


def mark(item: pytest.Item) -> None:
    """Add the kinds of a test's fixtures to its own markers; mark it ``fast`` if it has no kind."""
    for fixture in KIND_OF_FIXTURE.keys() & set(getattr(item, "fixturenames", ())):
        item.add_marker(KIND_OF_FIXTURE[fixture])
    if not KINDS & {marker.name for marker in item.iter_markers()}:
        item.add_marker("fast")


def refuse_what_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test fail that trains or runs eurosat or DVC in a process, until it is marked so."""
    from eurosat.models.classifier import EuroSATClassifier

    start = subprocess.Popen.__init__

    def start_light(process: Any, command: Any, *arguments: Any, **options: Any) -> None:
        first, *others = map(str, [command] if isinstance(command, str) else command)
        program = Path(first).name
        # Libraries start Python too, as jsonargparse does to find type stubs.
        runs_eurosat = program.startswith("python") and any("eurosat" in word for word in others)
        if runs_eurosat or program in ("eurosat", "dvc"):
            pytest.fail(f"this test starts {program}: mark it with pytest.mark.process")
        start(process, command, *arguments, **options)

    def step(*_: Any) -> None:
        pytest.fail("this test trains a model: mark it with pytest.mark.training")

    monkeypatch.setattr(subprocess.Popen, "__init__", start_light)
    monkeypatch.setattr(EuroSATClassifier, "training_step", step)
