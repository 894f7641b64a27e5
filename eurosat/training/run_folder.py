"""The folder of a run; no two runs share a folder."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.utilities import rank_zero_only

from eurosat.errors import RunDirectoryError


def reserve_folder(parent: Path) -> Path:
    """Create a new folder named after the current time.

    Runs may start in the same second, as the runs of a sweep do. The first run gets the name, and
    each later run gets the name with a number appended.

    Args:
        parent: Folder of an experiment's runs; it is created if it is missing.
    """
    folder = name_folder(parent)
    parent.mkdir(parents=True, exist_ok=True)
    number, candidate = 1, folder
    while True:
        try:
            candidate.mkdir()
        except FileExistsError:
            number += 1
            candidate = folder.with_name(f"{folder.name}-{number}")
        else:
            return candidate


def name_folder(parent: Path) -> Path:
    """Name a folder after the current time without creating it."""
    return parent / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def check_folder(folder: Path) -> Path:
    """Check that a requested folder is missing or empty.

    Raises:
        RunDirectoryError: The folder holds files.
    """
    # Hidden files, such as DVC's .gitignore, do not belong to a run.
    if folder.exists() and (not folder.is_dir() or any(folder.glob("[!.]*"))):
        raise RunDirectoryError(
            f"{folder} exists and is not empty: delete {folder}, or choose another --run_directory"
        )
    return folder


def is_first_process() -> bool:
    """Whether this is the first process of a run, before a trainer exists.

    Lightning reads the rank from the environment, but where it starts the processes of every
    machine itself, only the number of the machine tells their first ones apart.
    """
    return cast(Any, rank_zero_only).rank == 0 and os.environ.get("NODE_RANK", "0") == "0"
