"""A training of two processes, which Lightning starts."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CONFIGS, SMALL_MODEL, TINY, Run, wandb_without_account
from tests.tracked import tracked_runs

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory, store_root: Path) -> Run:
    """A finished run of two processes, with W&B where it is installed."""
    root = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "eurosat", "fit", *TINY, *SMALL_MODEL, "--profile"]
    command += [f"--data.root={store_root}", "--trainer.devices=2", "--trainer.strategy=ddp"]
    command += ["--data.num_workers=1", "--model.ema_decay=0.9", "--trainer.max_epochs=2"]
    if importlib.util.find_spec("wandb"):
        command.append(f"--config={CONFIGS / 'logger' / 'wandb.yaml'}")
    environment = os.environ | wandb_without_account(root / "home")
    subprocess.run(command, cwd=root, env=environment, check=True, timeout=300)
    (folder,) = root.glob("outputs/*/*")
    return Run(folder)


def test_two_processes_train_together_and_test_every_patch_once(two_processes: Run) -> None:
    with (two_processes.folder / "predictions.csv").open() as file:
        files = [row["file"] for row in csv.DictReader(file)]
    card = two_processes.json("run.json")
    assert len(files) == len(set(files)) == card["split"]["test"]
    assert card["hardware"]["devices"] == 2
    log = [json.loads(line) for line in (two_processes.folder / "run.jsonl").open()]
    assert [record["rank"] for record in log if record.get("event") == "epoch"] == [0, 0]
    assert two_processes.json("profile.json")["processes"] == 2


def test_two_processes_are_one_run_of_wandb(two_processes: Run) -> None:
    pytest.importorskip("wandb")
    (kept,) = tracked_runs(two_processes.folder)
    assert kept.exit_code == 0
    assert len(kept.series("val/accuracy")) == 2
    assert kept.config["record"]["hardware"]["devices"] == 2
