"""The folder of a run, which no other run has."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.utilities import rank_zero_only

from eurosat.errors import RunDirectoryError


def reserve_folder(parent: Path) -> Path:
    """Make a new folder named by the time.

    Runs may start in the same second, as the agents of a sweep do: the folder goes to the one
    that makes it, and the others number theirs.

    Args:
        parent: Folder of an experiment's runs; made if it is missing.
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
    """The name of a folder that is not made, or that another process of the run makes."""
    return parent / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def check_folder(folder: Path) -> Path:
    """Look whether a folder that was asked for is free.

    Raises:
        RunDirectoryError: Something is in it.
    """
    # Hidden files, such as DVC's .gitignore, are none of a run's.
    if folder.exists() and (not folder.is_dir() or any(folder.glob("[!.]*"))):
        raise RunDirectoryError(
            f"{folder} is there already and not empty: delete it, or choose another --run_directory"
        )
    return folder


def is_first_process() -> bool:
    """Whether this is the first process of a run, before there is a trainer to ask.

    Lightning reads the rank from the environment, but where it starts the processes of every
    machine itself, only the number of the machine tells their first ones apart.
    """
    return cast(Any, rank_zero_only).rank == 0 and os.environ.get("NODE_RANK", "0") == "0"
