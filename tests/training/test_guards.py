"""Runs that cannot end well: early, by name, and marked wherever they are kept."""

import csv
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from eurosat.cli import main
from eurosat.training.callbacks.status import agree_on_status
from tests.breaking import ENVIRONMENT
from tests.conftest import CONFIGS, SMALL_MODEL, TINY, Run
from tests.tracked import tracked_runs

OVERLAY = f"--config={CONFIGS / 'logger' / 'wandb.yaml'}"
TWO_PROCESSES = ("--trainer.devices=2", "--trainer.strategy=ddp")
EXPLODING = ("--model.optimizer=torch.optim.SGD", "--model.optimizer.init_args.lr=1e30")


@pytest.fixture
def fit(
    tmp_path: Path, store_root: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, Path]]:
    """Runs a fit that is to fail; gives its exit code and folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, Path]:
        code = main(["fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}", *arguments])
        (folder,) = tmp_path.glob("outputs/*/*")
        return code, folder

    return run


def status(folder: Path) -> str:
    card: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return str(card["status"])


def test_a_loss_that_is_not_finite_ends_the_run_and_marks_it(
    fit: Callable[..., tuple[int, Path]],
    wandb_settings: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, folder = fit(*EXPLODING, OVERLAY)
    assert code == 1
    error = capsys.readouterr().err
    # The first step is taken from a finite loss; the second loss is what it did.
    assert "the training loss is not finite at batch 1 of epoch 0: lower the learning rate" in error
    assert status(folder).startswith("diverged: the training loss is not finite")
    assert not (folder / "metrics.json").exists()
    assert not list((folder / "checkpoints").glob("*"))
    (kept,) = tracked_runs(folder)
    assert kept.exit_code == 1
    assert kept.tags == {"diverged"}
    assert kept.summary["status"] == status(folder)
    assert kept.config["record"]["data"]["fingerprint"]


def test_divergence_is_found_within_an_epoch(
    fit: Callable[..., tuple[int, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    code, folder = fit(*EXPLODING, "--data.batch_size=1")  # 96 steps an epoch
    assert code == 1
    assert "at batch 1 of epoch 0" in capsys.readouterr().err
    with (folder / "metrics.csv").open() as file:
        assert "val/loss" not in next(csv.reader(file), [])


def test_divergence_in_the_last_step_is_found_by_validation(
    fit: Callable[..., tuple[int, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    code, folder = fit(*EXPLODING, "--trainer.limit_train_batches=1")
    assert code == 1
    assert "the validation loss is nan in epoch 0" in capsys.readouterr().err
    assert status(folder).startswith("diverged: the validation loss is nan")
    assert not list((folder / "checkpoints").glob("*"))


def test_more_batches_per_step_than_an_epoch_has_are_named(
    fit: Callable[..., tuple[int, Path]], caplog: pytest.LogCaptureFixture
) -> None:
    assert fit("--trainer.accumulate_grad_batches=7")[0] == 0
    assert "accumulate_grad_batches 7 is more than the 6 batches of an epoch" in caplog.text


@pytest.mark.training
@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (math.nan, 2, "has weights that are NaN, because the training diverged"),
        (math.inf, 1, "the test loss is nan, so the other metrics mean nothing"),
    ],
)
def test_a_diverged_model_is_not_measured(
    number: float,
    code: int,
    message: str,
    trained: Run,
    store_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The class with the largest of ten NaN would be the first class."""
    content = torch.load(trained.best, weights_only=True)
    content["state_dict"]["backbone.stem.0.weight"][0] = number
    torch.save(content, tmp_path / "diverged.ckpt")
    arguments = ["test", *TINY, f"--data.root={store_root}", f"--run_directory={tmp_path / 'run'}"]
    assert main([*arguments, f"--ckpt_path={tmp_path / 'diverged.ckpt'}"]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--trainer.max_steps=3",),
        ("--checkpoint.every_n_train_steps=3", "--checkpoint.monitor=null"),
    ],
    ids=["the last step within an epoch", "a checkpoint within an epoch"],
)
def test_weights_that_diverged_within_an_epoch_are_not_saved(
    options: tuple[str, ...],
    fit: Callable[..., tuple[int, Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, folder = fit(*EXPLODING, *options, "--data.batch_size=1")
    assert code == 1
    assert "at batch 1 of epoch 0" in capsys.readouterr().err
    assert status(folder).startswith("diverged: ")
    assert not list((folder / "checkpoints").glob("*"))


@pytest.mark.process
@pytest.mark.parametrize(
    ("options", "exit_code", "ended"),
    [
        (EXPLODING, 1, "diverged: the training loss is not finite at batch 1 of epoch 0"),
        (
            ("--trainer.callbacks=tests.breaking.SecondProcessFails",),
            -signal.SIGKILL,
            "failed: ValueError('one process alone')",
        ),
    ],
    ids=["all diverge", "the second fails"],
)
def test_the_end_of_two_processes_is_marked(
    options: tuple[str, ...], exit_code: int, ended: str, tmp_path: Path, store_root: Path
) -> None:
    command = [sys.executable, "-m", "eurosat", "fit", *TINY, *SMALL_MODEL, *TWO_PROCESSES]
    command += [f"--data.root={store_root}", *options]
    finished = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, timeout=300)
    assert finished.returncode == exit_code
    (folder,) = tmp_path.glob("outputs/*/*")
    assert status(folder).startswith(ended)
    assert not list((folder / "checkpoints").glob("*"))


def test_another_failure_is_marked_as_one(
    fit: Callable[..., tuple[int, Path]], wandb_settings: None
) -> None:
    code, folder = fit('--data.augmentations=[{"class_path": "albumentations.Normalize"}]', OVERLAY)
    assert code == 2
    assert status(folder).startswith("failed: AugmentationError")
    (kept,) = tracked_runs(folder)
    assert kept.exit_code == 1
    assert kept.tags == {"failed"}
    assert kept.summary["status"] == status(folder)


@pytest.mark.parametrize(
    "watching",
    [
        ("--checkpoint.monitor=val/acc",),
        (
            "--trainer.callbacks=lightning.pytorch.callbacks.EarlyStopping",
            "--trainer.callbacks.monitor=val/acc",
        ),
    ],
    ids=["checkpoint", "early stopping"],
)
def test_a_validation_metric_that_nothing_logs_is_named_before_training(
    watching: tuple[str, ...],
    fit: Callable[..., tuple[int, Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, folder = fit(*watching)
    assert code == 2
    error = capsys.readouterr().err
    assert "eurosat fit: error: " in error
    assert "monitors val/acc, which the training does not log" in error
    assert "val/accuracy, val/accuracy_macro" in error
    assert status(folder).startswith("failed: MonitorError")
    assert not (folder / "metrics.csv").exists()


@pytest.mark.parametrize(
    "watching",
    [
        ("--checkpoint.monitor=val/loss", "--checkpoint.mode=max"),
        (
            "--trainer.callbacks=lightning.pytorch.callbacks.EarlyStopping",
            "--trainer.callbacks.monitor=val/accuracy",
        ),
        (
            "--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau",
            "--model.lr_scheduler.init_args.monitor=val/accuracy",
        ),
        (
            "--model.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau",
            "--model.lr_scheduler.init_args.mode=max",
            "--trainer.num_sanity_val_steps=0",
        ),
        (
            "--trainer.callbacks=lightning.pytorch.callbacks.EarlyStopping",
            "--trainer.callbacks.monitor=train/accuracy",
        ),
        ("--checkpoint.monitor=train/loss", "--checkpoint.mode=max"),
    ],
    ids=[
        *("checkpoint", "early stopping", "schedule", "torch's schedule"),
        *("early stopping by the training", "checkpoint by the training"),
    ],
)
def test_the_worst_value_is_not_taken_for_the_best(
    watching: tuple[str, ...],
    fit: Callable[..., tuple[int, Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, folder = fit(*watching)
    assert code == 2
    error = capsys.readouterr().err
    assert ", which takes the worst value for the best: set mode to m" in error
    assert not (folder / "metrics.csv").exists()


def test_a_watched_loss_keeps_the_smallest_value(fit: Callable[..., tuple[int, Path]]) -> None:
    code, folder = fit("--checkpoint.monitor=val/loss")
    assert code == 0
    assert json.loads((folder / "run.json").read_text())["mode"] == "min"


def test_a_training_metric_that_nothing_logs_is_named(
    fit: Callable[..., tuple[int, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    code, folder = fit("--checkpoint.monitor=train/acc")
    assert code == 2
    error = capsys.readouterr().err
    assert "eurosat fit: error: " in error
    assert "train/acc" in error
    assert "'train/accuracy'" in error
    assert status(folder).startswith("failed: ")


def test_a_machine_without_the_record_says_how_its_own_processes_ended(tmp_path: Path) -> None:
    """Several machines need not share a disk; the record is the first one's."""
    assert agree_on_status(tmp_path, "interrupted") == "interrupted"
    assert not list(tmp_path.iterdir())
    (tmp_path / "run.json").write_text('{"status": "running"}')
    assert agree_on_status(tmp_path, "failed: first") == "failed: first"
    assert agree_on_status(tmp_path, "interrupted") == "failed: first"
    assert status(tmp_path) == "failed: first"
