"""What a resumed training takes from its checkpoint: progress, and no setting."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import (
    CosineAnnealingWarmRestarts,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from eurosat.cli import main
from eurosat.models.restoring import keep_settings, restore_schedule
from tests.conftest import TINY, Run

STEPS = (
    "--model.optimizer=torch.optim.AdamW",
    "--model.optimizer.init_args.lr=0.01",
    "--model.lr_scheduler=torch.optim.lr_scheduler.StepLR",
    "--model.lr_scheduler.init_args.step_size=1",
)
STOPPING = (
    "--trainer.callbacks=lightning.pytorch.callbacks.EarlyStopping",
    "--trainer.callbacks.monitor=val/loss",
)


@pytest.fixture(scope="session")
def first(train_once: Callable[..., Run]) -> Run:
    return train_once("restored", *STEPS, *STOPPING, "--trainer.callbacks.patience=5")


@pytest.fixture
def resume(first: Run, run: Callable[..., Run]) -> Callable[..., dict[str, Any]]:
    """Train a second epoch, and give the content of its last checkpoint."""

    def second_epoch(*options: str, checkpoint: Path | None = None) -> dict[str, Any]:
        path = checkpoint or last(first)
        found = run("fit", f"--ckpt_path={path}", "--trainer.max_epochs=2", *options, model=())
        content: dict[str, Any] = torch.load(last(found), weights_only=True)
        return content

    return second_epoch


def last(run: Run) -> Path:
    return run.folder / "checkpoints" / "last.ckpt"


def test_settings_are_those_of_the_command_line(resume: Callable[..., dict[str, Any]]) -> None:
    content = resume(
        *(STEPS[0], "--model.optimizer.init_args.lr=0.02", *STEPS[2:], *STOPPING),
        "--model.optimizer.init_args.weight_decay=0.3",
        "--model.lr_scheduler.init_args.gamma=0.5",
        "--trainer.callbacks.patience=7",
    )
    (stopping,) = (s for key, s in content["callbacks"].items() if key.startswith("EarlyStopping"))
    assert stopping["patience"] == 7
    (optimizer,) = content["optimizer_states"]
    assert optimizer["param_groups"][0]["weight_decay"] == 0.3
    assert optimizer["state"][0]["step"] == 12  # of two epochs
    (schedule,) = content["lr_schedulers"]
    assert schedule["last_epoch"] == 2
    # The first epoch ended with a tenth of its rate, the second halved the rate.
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(0.02 * 0.1 * 0.5)


def test_an_older_checkpoint_goes_on_with_its_rate(
    first: Run, resume: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    content = torch.load(last(first), weights_only=True)
    for group in content["optimizer_states"][0]["param_groups"]:
        del group["kind"]
    torch.save(content, tmp_path / "older.ckpt")
    older = resume(*STEPS, checkpoint=tmp_path / "older.ckpt")
    assert older["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-4)
    assert older["optimizer_states"][0]["state"][0]["step"] == 12


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (("--model.optimizer=torch.optim.SGD", *STEPS[1:]), "the state of another optimiser"),
        (("--model.optimizer=torch.optim.Adamax", *STEPS[1:]), "the state of another optimiser"),
        (
            (*STEPS[:2], "--model.lr_scheduler=eurosat.models.WarmupCosine"),
            "the state of another schedule than WarmupCosine",
        ),
        ((*STEPS, "--model.freeze_backbone=true"), "an optimiser of other weights"),
    ],
    ids=["SGD", "Adamax", "schedule", "frozen"],
)
def test_what_does_not_fit_begins_anew_with_a_warning(
    options: tuple[str, ...],
    warning: str,
    resume: Callable[..., dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert resume(*options)["epoch"] == 1
    assert warning in caplog.text


def test_a_frozen_run_goes_on_with_all_weights(
    run: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    """The advice for several processes: train the head, then resume with the whole network."""
    frozen = last(run("fit", "--model.freeze_backbone=true"))
    options = ("--model.freeze_backbone=false", "--trainer.max_epochs=2")
    thawed = last(run("fit", f"--ckpt_path={frozen}", *options, model=()))
    before, after = (torch.load(p, weights_only=True)["state_dict"] for p in (frozen, thawed))
    assert not torch.equal(before["backbone.stem.0.weight"], after["backbone.stem.0.weight"])
    assert "an optimiser of other weights" in caplog.text


@pytest.mark.training
def test_weights_alone_cannot_be_resumed(
    first: Run, store_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(last(first), weights_only=True)
    for name in ("optimizer_states", "lr_schedulers", "callbacks"):
        del content[name]
    torch.save(content, tmp_path / "weights.ckpt")
    arguments = ["fit", *TINY, f"--data.root={store_root}", f"--output_root={tmp_path}"]
    assert main([*arguments, f"--ckpt_path={tmp_path / 'weights.ckpt'}"]) == 2
    assert "holds only weights, so a training cannot continue" in capsys.readouterr().err


def step(schedule: LRScheduler, optimizer: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        optimizer.step()
        schedule.step(1.0) if isinstance(schedule, ReduceLROnPlateau) else schedule.step()


@pytest.mark.parametrize("optimiser", [SGD, AdamW])
@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: StepLR(optimizer, 2),
        lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 3, 2),
        lambda optimizer: OneCycleLR(optimizer, 0.3, total_steps=20),
        lambda optimizer: ReduceLROnPlateau(optimizer, patience=1),
    ],
    ids=["StepLR", "CosineAnnealingWarmRestarts", "OneCycleLR", "ReduceLROnPlateau"],
)
def test_with_the_same_settings_a_schedule_continues_exactly(
    make: Callable[..., LRScheduler], optimiser: Any
) -> None:
    def build() -> tuple[torch.optim.Optimizer, LRScheduler]:
        optimizer = optimiser([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        schedule = make(optimizer)
        keep_settings(optimizer)
        return optimizer, schedule

    whole, schedule = build()
    step(schedule, whole, 5)
    resumed, again = build()
    resumed.load_state_dict(whole.state_dict())
    restore_schedule(again, schedule.state_dict())
    for _ in range(6):
        assert resumed.param_groups[0]["lr"] == whole.param_groups[0]["lr"]
        step(schedule, whole, 1)
        step(again, resumed, 1)


def test_a_plateau_keeps_its_reductions_and_takes_a_new_patience() -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    keep_settings(optimizer)
    schedule = ReduceLROnPlateau(optimizer, patience=1)
    step(schedule, optimizer, 4)
    other = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    keep_settings(other)
    resumed = ReduceLROnPlateau(other, patience=9, min_lr=0.001)
    other.load_state_dict(optimizer.state_dict())
    restore_schedule(resumed, schedule.state_dict())
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    assert other.param_groups[0]["lr"] == pytest.approx(0.02)
    assert resumed.best == schedule.best
    assert (resumed.patience, resumed.min_lrs) == (9, [0.001])
