"""Folders that one process of a test session fills and all processes of the session read."""

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

SessionFolder = Callable[[str, Callable[[Path], object]], Path]
"""Takes a folder's name and a function that fills a new folder; returns the filled folder."""


def fill_once(root: Path, name: str, fill: Callable[[Path], object]) -> Path:
    """Fill a folder once per test session.

    A process that needs the folder while another process fills the folder waits for the other
    process.

    Args:
        root: The folder that all processes of the session share.
        name: Name of the folder in ``root``.
        fill: Fills a new folder. The folder has its final path, because runs record their paths.

    Returns:
        The filled folder. A test that changes files must copy the folder first.
    """
    folder, filled = root / name, root / f"{name}.filled"
    root.mkdir(exist_ok=True)
    with FileLock(root / f"{name}.lock"):
        if not filled.exists():
            shutil.rmtree(folder, ignore_errors=True)  # a failed attempt may have left files
            folder.mkdir()
            fill(folder)
            filled.touch()
    return folder
