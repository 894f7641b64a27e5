"""Every format of one tiny run, made by the command line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eurosat.cli import main
from eurosat.export.formats import ENDINGS, FORMATS
from tests.conftest import Run

LENIENT = ("--max_accuracy_loss=20", "--calibration_images=40")
"""A tiny run has ten validation images: each is 10 points of accuracy."""


@pytest.fixture(scope="session")
def exported(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of every format, by format."""
    folder = tmp_path_factory.mktemp("exported")
    files = {format: folder / f"{format}{ENDINGS[format]}" for format in FORMATS}
    for format, path in files.items():
        arguments = [f"--format={format}", f"--output={path}", *LENIENT]
        assert main(["export", str(trained.best), *arguments]) == 0
    return files


@pytest.fixture
def own_run(trained: Run, tmp_path: Path) -> Run:
    """A copy of the tiny run that a test may change."""
    shutil.copytree(trained.folder, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def random_patches() -> Callable[..., np.ndarray]:
    """Makes raw patches that no model has seen."""

    def make(
        count: int, shape: tuple[int, ...] = (3, 64, 64), dtype: type = np.uint8
    ) -> np.ndarray:
        top = 256 if dtype is np.uint8 else 10_000
        return np.random.default_rng(count).integers(0, top, (count, *shape)).astype(dtype)

    return make


def files_in(folder: Path) -> set[str]:
    """Names of all files and folders, hidden ones too."""
    return {path.name for path in folder.iterdir()}
