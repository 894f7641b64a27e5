"""Trainings that are stopped and resumed within an epoch see every batch once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from eurosat.cli import main
from tests.conftest import SMALL_MODEL, TINY, Run

WARMUP = "eurosat.models.WarmupCosine"
ONE_CYCLE = (
    "--model.lr_scheduler=torch.optim.lr_scheduler.OneCycleLR",
    *("--model.lr_scheduler.init_args.max_lr=0.01", "--model.lr_scheduler_interval=step"),
    "--model.lr_scheduler.init_args.total_steps=24",
)
SETTINGS = ("--data.batch_size=8", "--trainer.max_epochs=2", "--model.mixup_alpha=0.4")
"""Twelve batches an epoch."""


class Watch(Callback):
    """Notes the patches of every batch, and ends the training at a step."""

    seen: ClassVar[list[tuple[int, int, list[int]]]] = []

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.stop:
            raise KeyboardInterrupt
        self.seen.append((trainer.current_epoch, batch_idx, batch["index"].tolist()))


@pytest.fixture
def fit(tmp_path: Path, store_root: Path) -> Callable[..., tuple[Run, list[Any]]]:
    """Train, and give the run and the patches of its batches."""

    def train(name: str, *options: str, stop: int | None = None) -> tuple[Run, list[Any]]:
        watch = {"class_path": f"{__name__}.Watch", "init_args": {"stop": stop}}
        arguments = ["fit", *TINY, *SMALL_MODEL, *SETTINGS, *options, f"--data.root={store_root}"]
        arguments += [f"--run_directory={tmp_path / name}"]
        Watch.seen.clear()
        try:
            main([*arguments, f"--trainer.callbacks={json.dumps([watch])}"])
        except SystemExit:
            assert stop is not None
        return Run(tmp_path / name), list(Watch.seen)

    return train


def last(run: Run) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(
        run.folder / "checkpoints" / "last.ckpt", weights_only=True
    )
    return content


@pytest.mark.training
@pytest.mark.parametrize(
    ("options", "stop", "resumed_at"),
    [
        (("--trainer.val_check_interval=0.25",), 8, 6),
        (("--trainer.val_check_interval=5",), 14, 12),  # the epoch's end, after the validation
        # Lightning loads the batches before it restores the training, to count the steps.
        (("--trainer.val_check_interval=5", f"--model.lr_scheduler={WARMUP}"), 19, 17),
        (("--trainer.val_check_interval=0.5", "--data.num_workers=2"), 20, 18),
        # Workers gather the first batches as soon as there is an iterator.
        (
            (
                "--trainer.val_check_interval=5",
                "--data.num_workers=2",
                f"--model.lr_scheduler={WARMUP}",
            ),
            19,
            17,
        ),
        (("--trainer.limit_train_batches=5", "--trainer.val_check_interval=2"), 8, 7),
        (("--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=4"), 5, 4),
        # The schedule moves the momentum within the epoch.
        ((*ONE_CYCLE, "--trainer.val_check_interval=5"), 19, 17),
        # The metric that chooses the checkpoint is logged after the validations.
        (("--checkpoint.monitor=train/loss", "--trainer.val_check_interval=5"), 8, 5),
    ],
)
def test_every_batch_is_seen_once(
    options: tuple[str, ...],
    stop: int,
    resumed_at: int,
    fit: Callable[..., tuple[Run, list[Any]]],
) -> None:
    whole, expected = fit("whole", *options)
    stopped, before = fit("stopped", *options, stop=stop)
    assert last(stopped)["global_step"] == resumed_at
    checkpoint = stopped.folder / "checkpoints" / "last.ckpt"
    resumed, after = fit("resumed", *options, f"--ckpt_path={checkpoint}")
    count = len(expected) - len(after)
    assert before[:count] + after == expected
    one, other = (last(run)["state_dict"] for run in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert last(resumed)["global_step"] == last(whole)["global_step"]
    assert resumed.json("metrics.json") == whole.json("metrics.json")


@pytest.mark.training
@pytest.mark.parametrize("changed", ["--data.batch_size=16", "--seed_everything=7"])
def test_the_rest_of_an_epoch_of_other_batches_is_not_guessed(
    changed: str,
    fit: Callable[..., tuple[Run, list[Any]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    each = ("--checkpoint.every_n_train_steps=4", "--checkpoint.monitor=null")
    each += ("--checkpoint.save_top_k=-1", "--checkpoint.filename=step{step}")
    whole, _ = fit("whole", *each)
    checkpoints = whole.folder / "checkpoints"
    _, seen = fit("within", changed, f"--ckpt_path={checkpoints / 'step4.ckpt'}")
    assert seen == []
    assert "resume with --seed_everything 42, --data.batch_size 8 and" in capsys.readouterr().err
    _, seen = fit("after", changed, f"--ckpt_path={checkpoints / 'step12.ckpt'}")
    assert {epoch for epoch, *_ in seen} == {1}


@pytest.mark.training
def test_a_checkpoint_of_a_step_is_resumed_at_the_next(
    fit: Callable[..., tuple[Run, list[Any]]],
) -> None:
    each = ("--checkpoint.every_n_train_steps=5", "--checkpoint.monitor=null")
    each += ("--checkpoint.save_top_k=-1", "--checkpoint.filename=step{step}")
    whole, expected = fit("whole", *each)
    checkpoint = whole.folder / "checkpoints" / "step5.ckpt"
    resumed, after = fit("resumed", *each, f"--ckpt_path={checkpoint}")
    assert expected[:5] + after == expected
    assert resumed.json("metrics.json") == whole.json("metrics.json")


@pytest.mark.training
def test_overfitting_repeats_the_same_batches(
    fit: Callable[..., tuple[Run, list[Any]]],
) -> None:
    run, seen = fit("overfit", "--trainer.overfit_batches=2")
    assert len(seen) == 4
    assert [indices for *_, indices in seen[:2]] == [indices for *_, indices in seen[2:]]
    assert run.json("run.json")["status"] == "finished"
