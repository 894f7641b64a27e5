"""One global batch in one and in two processes: the same losses, and the same metrics.

These tests start many processes, so they run only on demand: ``.venv/bin/pytest -m long``.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY, Run

pytestmark = pytest.mark.long

TOLERANCE = 1e-3
"""Largest relative difference of a loss; floats are added in another order."""

# Batch normalisation would see half a batch in each of two processes, so the network has none.
WITHOUT_BATCH_NORM = (
    *("--model.backbone=test_vit", '--model.backbone_args={"img_size": 64}'),
    '--data.augmentations=[{"class_path": "albumentations.D4"}]',
    "--trainer.precision=32-true",
)


def command(folder: Path, verb: str, processes: int, *options: str) -> Run:
    """Run a verb in one or in two processes, with the same global batch of 16 patches."""
    shared = ["--trainer.strategy=ddp"] if processes > 1 else []
    subprocess.run(
        [
            *(sys.executable, "-m", "eurosat", verb, *TINY, *WITHOUT_BATCH_NORM, *options),
            *(f"--trainer.devices={processes}", f"--data.batch_size={16 // processes}", *shared),
            f"--run_directory={folder / f'{verb}-{processes}'}",
        ],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        timeout=300,
    )
    return Run(folder / f"{verb}-{processes}")


def losses(run: Run) -> list[float]:
    with (run.folder / "learning_curves.csv").open(newline="") as file:
        return [
            float(row[name]) for row in csv.DictReader(file) for name in ("train/loss", "val/loss")
        ]


def test_the_losses_and_the_metrics_are_the_same(tmp_path: Path) -> None:
    one, two = (command(tmp_path, "fit", number, "--trainer.max_epochs=4") for number in (1, 2))
    assert len(losses(one)) == 8
    assert losses(two) == pytest.approx(losses(one), rel=TOLERANCE)
    # 10 test patches among 2 processes in batches of 8 and 16: the shards are ragged.
    checkpoint = f"--ckpt_path={one.best}"
    measured = [command(tmp_path, "test", number, checkpoint) for number in (1, 2)]
    first, second = (run.json("metrics.json") for run in measured)
    assert json.dumps(first["per_class"]) == json.dumps(second["per_class"])
    assert second["accuracy"] == first["accuracy"]
    assert second["loss"] == pytest.approx(first["loss"], rel=1e-5)
    assert second["ece"] == pytest.approx(first["ece"], rel=1e-5)
