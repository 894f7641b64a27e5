"""Two models of one run: a good one, and the same with its answers confused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import Run
from tests.session_folder import SessionFolder

QUICK = ("--severities=[3]", "--threads=1")


@pytest.fixture(scope="session")
def good(train_once: Callable[..., Run]) -> Run:
    """A run that is better than chance, with 90 test images."""
    options = ["--data.synthetic_images=300", "--data.split_fractions=[0.6, 0.1, 0.3]"]
    options += ["--trainer.max_epochs=15", "--trainer.precision=32-true"]
    options += ["--model.optimizer=torch.optim.AdamW", "--model.optimizer.init_args.lr=0.01"]
    run = train_once("good", *options)
    assert run.json("metrics.json")["accuracy"] > 0.4
    return run


def changed(run: Run, folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Run:
    """A copy of a run with other weights in the last layer of its best checkpoint."""
    shutil.copytree(run.folder, folder)
    copy = Run(folder)
    checkpoint = torch.load(copy.best, weights_only=True)
    weights = checkpoint["state_dict"]
    weights["backbone.head.weight"] = change(weights["backbone.head.weight"])
    torch.save(checkpoint, copy.best)
    return copy


@pytest.fixture(scope="session")
def bad(good: Run, session_folder: SessionFolder) -> Run:
    """The good run with its classes confused: each is taken for the next."""

    def confuse(folder: Path) -> None:
        changed(good, folder / "run", lambda weights: weights.roll(1, dims=0))

    return Run(session_folder("bad", confuse) / "run")


@pytest.fixture
def own_copy(good: Run, tmp_path: Path) -> Run:
    """A copy of the good run that a test may change."""
    shutil.copytree(good.folder, tmp_path / "copy")
    return Run(tmp_path / "copy")
