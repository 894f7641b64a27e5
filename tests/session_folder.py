"""Folders that one process of a test session fills, and all of its processes read."""

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

SessionFolder = Callable[[str, Callable[[Path], object]], Path]
"""Takes a name and a function that fills a new folder; gives the filled folder of that name."""


def fill_once(root: Path, name: str, fill: Callable[[Path], object]) -> Path:
    """Fill a folder unless another process has filled it, or wait while another process fills it.

    Args:
        root: The folder that all processes of the session share.
        name: Name of the folder in it.
        fill: Fills a new folder at its final place, because runs record their own paths.

    Returns:
        The filled folder. A test that changes its content changes a copy.
    """
    folder, filled = root / name, root / f"{name}.filled"
    root.mkdir(exist_ok=True)
    with FileLock(root / f"{name}.lock"):
        if not filled.exists():
            shutil.rmtree(folder, ignore_errors=True)  # a failed attempt may have left something
            folder.mkdir()
            fill(folder)
            filled.touch()
    return folder
