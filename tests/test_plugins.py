"""What installed packages add is found by every process, such as the runs of a study."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.process

PLUGIN = REPOSITORY / "tests/fixtures/toy_scores"


def ask(code: str, plugin: Path) -> "subprocess.CompletedProcess[str]":
    """Run code in a process in which the package in a folder counts as installed."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(plugin)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_metrics_of_a_package_are_logged_and_choose_the_checkpoint() -> None:
    code = (
        "from eurosat.metrics import best_value, logged_names, metric_named, metrics\n"
        "print(metric_named('top3').title, 'val/top3' in logged_names(), len(metrics()))"
    )
    assert ask(code, PLUGIN).stdout.split() == ["Top-3", "accuracy", "True", "7"]


def test_corruptions_of_a_package_are_applied() -> None:
    code = "from eurosat.gate.corruptions import corruptions; print(corruptions()[-1].title)"
    assert ask(code, PLUGIN).stdout.strip() == "lost rows"


def test_a_backbone_of_a_package_is_built_with_its_arguments() -> None:
    code = (
        "from eurosat.models import EuroSATClassifier\n"
        "model = EuroSATClassifier(backbone='toy_net', backbone_args={'width': 4}, bands='rgb')\n"
        "import torch\n"
        "print(tuple(model.backbone.features.weight.shape), "
        "tuple(model(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape))"
    )
    assert ask(code, PLUGIN).stdout.strip() == "(4, 3, 3, 3) (2, 10)"


def test_a_broken_package_is_named_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    information = "toy_scores-1.0.dist-info"
    (tmp_path / information).mkdir()
    for name in ("METADATA", "entry_points.txt"):
        (tmp_path / information / name).write_text((PLUGIN / information / name).read_text())
    (tmp_path / "toy_metric.py").write_text("import a_package_that_is_missing\n")
    done = ask("from eurosat.metrics import metrics; print(metrics()[0].name)", tmp_path)
    assert done.stdout.strip() == "accuracy"
    assert "No module named 'a_package_that_is_missing'" in done.stderr
    assert "upgrade or uninstall toy-scores" in done.stderr
