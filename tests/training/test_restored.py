"""What a resumed training takes from its checkpoint: progress, and no setting."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
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


def test_a_schedule_sees_the_metric_of_the_last_epoch(run: Callable[..., Run]) -> None:
    """No epoch is better by the threshold, so the rate falls in every epoch but the first."""
    options = (
        *("--trainer.max_epochs=4", "--test_after_fit=false"),
        *("--model.optimizer=torch.optim.AdamW", "--model.optimizer.init_args.lr=0.01"),
        "--model.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau",
        "--model.lr_scheduler.init_args.patience=0",
        "--model.lr_scheduler.init_args.threshold=9",
        *("--checkpoint.save_top_k=-1", "--checkpoint.filename=e{epoch}"),
        *("--checkpoint.monitor=null", "--checkpoint.save_on_train_epoch_end=true"),
    )
    whole = run("fit", *options)
    checkpoint = whole.folder / "checkpoints" / "e1.ckpt"
    resumed = run("fit", *options, f"--ckpt_path={checkpoint}", model=())
    one, other = (torch.load(last(each), weights_only=True) for each in (whole, resumed))
    assert one["optimizer_states"][0]["param_groups"][0]["lr"] < 0.01
    assert one["lr_schedulers"] == other["lr_schedulers"]
    assert all(torch.equal(value, other["state_dict"][n]) for n, value in one["state_dict"].items())


AVERAGING = (
    *("--trainer.max_epochs=3", "--model.optimizer=torch.optim.SGD"),
    "--model.optimizer.init_args.lr=0.01",
    "--trainer.callbacks=lightning.pytorch.callbacks.StochasticWeightAveraging",
    *("--trainer.callbacks.swa_epoch_start=1", "--trainer.callbacks.annealing_epochs=3"),
    *("--checkpoint.monitor=null", "--checkpoint.save_top_k=-1", "--checkpoint.filename=e{epoch}"),
)


def test_averaged_weights_go_on_exactly_and_with_new_settings(run: Callable[..., Run]) -> None:
    averaging = (*AVERAGING, "--trainer.callbacks.swa_lrs=0.05")
    whole = run("fit", *averaging)
    first = whole.folder / "checkpoints" / "e1.ckpt"
    resumed = run("fit", *averaging, f"--ckpt_path={first}", model=())
    one, other = (torch.load(last(each), weights_only=True) for each in (whole, resumed))
    assert all(torch.equal(value, other["state_dict"][n]) for n, value in one["state_dict"].items())

    changed = (*AVERAGING, "--trainer.callbacks.swa_lrs=0.02")
    changed += ("--trainer.callbacks.annealing_epochs=1",)
    content = torch.load(
        last(run("fit", *changed, f"--ckpt_path={first}", model=())), weights_only=True
    )
    assert content["optimizer_states"][0]["param_groups"][0]["swa_lr"] == 0.02
    schedule = content["callbacks"]["StochasticWeightAveraging"]["scheduler_state"]
    assert schedule["anneal_epochs"] == 1


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


def test_settings_that_the_checkpoint_replaces_are_named(
    resume: Callable[..., dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    resume(*STEPS, "--data.classes=[Forest, River]", "--model.backbone=resnet10t")
    assert "--data.classes ['Forest', 'River'] has no effect, because the checkpoint" in caplog.text
    assert "--model.backbone resnet10t has no effect" in caplog.text
    assert "--data.bands" not in caplog.text
    assert "--model.backbone_args" not in caplog.text


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


def sequence(optimizer: torch.optim.Optimizer, gamma: float, milestone: int) -> SequentialLR:
    parts: list[LRScheduler] = [ConstantLR(optimizer, 0.5, 3), ExponentialLR(optimizer, gamma)]
    return SequentialLR(optimizer, parts, [milestone])


@pytest.mark.parametrize("optimiser", [SGD, AdamW])
@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: StepLR(optimizer, 2),
        lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 3, 2),
        lambda optimizer: OneCycleLR(optimizer, 0.3, total_steps=20),
        lambda optimizer: CyclicLR(optimizer, 0.1, 0.2, 4),
        lambda optimizer: ReduceLROnPlateau(optimizer, patience=1),
        lambda optimizer: sequence(optimizer, 0.9, 4),
    ],
    ids=[
        "StepLR",
        "CosineAnnealingWarmRestarts",
        "OneCycleLR",
        "CyclicLR",
        "ReduceLROnPlateau",
        "SequentialLR",
    ],
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
        groups = [each.state_dict()["param_groups"] for each in (resumed, whole)]
        assert groups[0] == groups[1]
        step(schedule, whole, 1)
        step(again, resumed, 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            lambda optimizer: CyclicLR(optimizer, 0.1, 0.2),
            lambda optimizer: CyclicLR(optimizer, 0.1, 0.3, 3, 5, base_momentum=0.7),
        ),
        (
            lambda optimizer: OneCycleLR(optimizer, 0.3, total_steps=20),
            lambda optimizer: OneCycleLR(optimizer, 0.3, 30, anneal_strategy="linear"),
        ),
        (
            lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 2),
            lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 3, 2),
        ),
        (
            lambda optimizer: sequence(optimizer, 0.9, 9),
            lambda optimizer: sequence(optimizer, 0.5, 8),
        ),
        (
            lambda optimizer: ChainedScheduler([StepLR(optimizer, 1)]),
            lambda optimizer: ChainedScheduler([StepLR(optimizer, 9)]),
        ),
    ],
    ids=["CyclicLR", "OneCycleLR", "CosineAnnealingWarmRestarts", "SequentialLR", "Chained"],
)
def test_the_settings_of_a_schedule_are_the_new_ones(
    before: Callable[..., LRScheduler], after: Callable[..., LRScheduler]
) -> None:
    def trained(make: Callable[..., LRScheduler]) -> LRScheduler:
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        schedule = make(optimizer)
        step(schedule, optimizer, 5)
        return schedule

    def settings(state: Any) -> Any:
        """Give what does not depend on the rates of the steps so far."""
        if isinstance(state, list):
            return [settings(each) for each in state]
        if isinstance(state, dict):
            return {name: settings(value) for name, value in state.items() if name != "_last_lr"}
        return state

    resumed = trained(after)
    expected = settings(resumed.state_dict())
    restore_schedule(resumed, trained(before).state_dict())
    assert settings(resumed.state_dict()) == expected


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
