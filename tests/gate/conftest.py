"""Two models of one run: a good one, and the same with its answers confused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from eurosat.cli import main
from tests.conftest import SMALL_MODEL, TINY, Run

QUICK = ("--severities=[3]", "--threads=1")


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory, store_root: Path) -> Run:
    """A run that is better than chance, with 90 test images."""
    root = tmp_path_factory.mktemp("good")
    arguments = ["fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}", "--trainer.max_epochs=15"]
    arguments += ["--data.synthetic_images=300", "--data.split_fractions=[0.6, 0.1, 0.3]"]
    arguments += [f"--output_root={root}", "--trainer.precision=32-true"]
    arguments += ["--model.optimizer=torch.optim.AdamW", "--model.optimizer.init_args.lr=0.01"]
    assert main(arguments) == 0
    (folder,) = root.glob("*/*")
    run = Run(folder)
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
def bad(good: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The good run with its classes confused: each is taken for the next."""
    folder = tmp_path_factory.mktemp("bad") / "run"
    return changed(good, folder, lambda weights: weights.roll(1, dims=0))


@pytest.fixture
def own_copy(good: Run, tmp_path: Path) -> Run:
    """A copy of the good run that a test may change."""
    shutil.copytree(good.folder, tmp_path / "copy")
    return Run(tmp_path / "copy")
