"""The git repository of a registry, and the files that DVC tracks in it."""

import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

from dvc.api import DVCFileSystem
from dvc.repo import Repo

from eurosat.errors import RegistryError
from eurosat.inference.files import model_files

PLACE_VARIABLE = "EUROSAT_REGISTRY"
"""Environment variable with the path or address of the registry's git repository.

The default is the repository of the current folder.
"""


def find_repository(otherwise: str = "") -> Path:
    """The root of the current folder's git repository, which must be a DVC repository as well.

    Args:
        otherwise: A further remedy for the error message.

    Raises:
        RegistryError: The current folder is in no such repository.
    """
    advice = f"call eurosat inside the git repository of the registry{otherwise}"
    root = Path(run_git(Path.cwd(), "rev-parse", "--show-toplevel", advice=advice))
    if not (root / ".dvc").is_dir():
        raise RegistryError(f"{root} is not a DVC repository: run `dvc init` in {root}{otherwise}")
    return root


def run_git(folder: Path, *arguments: str, advice: str) -> str:
    """Run git and return its output.

    Args:
        folder: A folder of the repository.
        arguments: The git command.
        advice: The remedy for the error message.

    Raises:
        RegistryError: Git is not installed, or git fails.
    """
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            encoding="utf-8",
            check=True,
            env=os.environ | {"LC_ALL": "C"},  # the reason is found by English words
        )
    except FileNotFoundError as error:
        raise RegistryError(
            "git is not installed, and the registry is a git repository: install git"
        ) from error
    except subprocess.CalledProcessError as error:
        reason = _reason(error.stderr) or str(error)
        raise RegistryError(
            f"git {arguments[0]} failed in {folder} ({reason}): {advice}"
        ) from error
    return result.stdout.strip()


def _reason(said: str) -> str | None:
    """The line of git's output that has the reason; hints stand before and after this line."""
    lines = [" ".join(line.split()) for line in said.splitlines()]
    # A rejected tag also fails the tags that were pushed with it.
    refused = [line for line in lines if line.startswith("! [") and "(atomic push" not in line]
    fatal = [line for line in lines if line.startswith("fatal:")]
    return next(iter([*refused, *fatal, *lines]), None)


def registered_files(path: str) -> list[str]:
    """Paths in the repository of a model file and of the files that belong to it."""
    return [file.as_posix() for file in model_files(PurePosixPath(path))]


def remote_settings(place: str) -> dict[str, Any]:
    """DVC's current settings of the remote, for versions that were registered before a move.

    Args:
        place: Path or address of the git repository.
    """
    with Repo.open(place, uninitialized=True) as repository:
        name = repository.config["core"].get("remote")
        remote = repository.config["remote"].get(name)
        return {"core": {"remote": name}, "remote": {name: remote}} if remote else {}


def md5_at(place: str, path: str, revision: str) -> str | None:
    """MD5 of a file that DVC tracks at a revision; None if DVC does not track the file there."""
    try:
        found: dict[str, Any] = DVCFileSystem(place, rev=revision).info(path)
    except FileNotFoundError:
        return None
    return found.get("md5")
