"""The trainer's defaults."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

from eurosat.errors import AcceleratorError
from eurosat.training.trainer import AtomicCheckpointIO, Trainer

SLURM = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "17"}


@pytest.fixture
def in_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)


def environment(**settings: Any) -> Any:
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, **settings)
    return cast(Any, trainer)._accelerator_connector.cluster_environment


@pytest.mark.usefixtures("in_slurm")
def test_slurm_jobs_are_not_requeued_by_lightning() -> None:
    found = environment()
    assert isinstance(found, SLURMEnvironment)
    assert not found.auto_requeue


@pytest.mark.usefixtures("in_slurm")
def test_an_environment_that_a_user_chose_stays() -> None:
    chosen = SLURMEnvironment(auto_requeue=True)
    assert environment(plugins=[chosen]) is chosen
    assert environment(plugins=chosen) is chosen


def test_outside_of_slurm_nothing_changes() -> None:
    assert isinstance(environment(), LightningEnvironment)


@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_a_gpu_that_cannot_be_used_is_explained(
    accelerator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_old() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12020).")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.init", too_old)
    with pytest.raises(AcceleratorError, match=r"driver on your system is too old .* upgrade"):
        Trainer(accelerator=accelerator)


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path) -> None:
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint({"epoch": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        io.save_checkpoint({"epoch": 2, "broken": lambda: None}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoints_are_written_beside_their_place() -> None:
    trainer = Trainer(accelerator="cpu", devices=1, logger=False)
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
