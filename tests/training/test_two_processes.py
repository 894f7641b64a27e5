"""A training of two processes, which Lightning starts."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tests.breaking import ENVIRONMENT
from tests.conftest import CONFIGS, SMALL_MODEL, TINY, Run, wandb_without_account
from tests.tracked import tracked_runs

pytestmark = pytest.mark.process


class NotesBatches(Callback):
    """Notes the patches of every batch of every process."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        noted = (trainer.current_epoch, batch_idx, batch["index"].tolist())
        with (self.folder / f"batches-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(f"{json.dumps(noted)}\n")


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


def test_two_processes_resume_within_an_epoch(tmp_path: Path, store_root: Path) -> None:
    def fit(name: str, *options: str) -> tuple[list[list[str]], dict[str, Any]]:
        folder = tmp_path / name
        folder.mkdir()
        watch = {"class_path": f"{__name__}.NotesBatches", "init_args": {"folder": str(folder)}}
        command = [sys.executable, "-m", "eurosat", "fit", *TINY, *SMALL_MODEL]
        command += [f"--data.root={store_root}", f"--run_directory={folder / 'run'}"]
        command += ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=4"]
        command += [
            "--model.mixup_alpha=0.4",
            "--test_after_fit=false",
            "--checkpoint.monitor=null",
        ]
        command += ["--checkpoint.every_n_train_steps=5", "--checkpoint.filename=step{step}"]
        command += ["--checkpoint.save_top_k=-1", f"--trainer.callbacks={json.dumps([watch])}"]
        subprocess.run([*command, *options], env=ENVIRONMENT, check=True, timeout=300)
        batches = [(folder / f"batches-{n}.jsonl").read_text().splitlines() for n in (0, 1)]
        last = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
        return batches, last["state_dict"]

    expected, weights = fit("whole")
    checkpoint = tmp_path / "whole" / "run" / "checkpoints" / "step5.ckpt"
    resumed, other = fit("resumed", f"--ckpt_path={checkpoint}")
    assert [len(batches) for batches in expected] == [12, 12]
    assert resumed == [batches[5:] for batches in expected]
    assert all(torch.equal(weights[name], other[name]) for name in weights)
