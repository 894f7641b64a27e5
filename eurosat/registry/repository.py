"""The git repository that a registry lives in, and the files that DVC keeps in it."""

import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

from dvc.api import DVCFileSystem
from dvc.repo import Repo

from eurosat.errors import RegistryError
from eurosat.inference.files import model_files

PLACE_VARIABLE = "EUROSAT_REGISTRY"
"""Environment variable with the git repository's path or address; here if it is not set."""


def find_repository(otherwise: str = "") -> Path:
    """The root of the git repository here, which must also be one of DVC.

    Args:
        otherwise: Another way out than a repository here, for the error.

    Raises:
        RegistryError: There is none.
    """
    advice = f"the registry lives in a git repository; call eurosat inside it{otherwise}"
    root = Path(run_git(Path.cwd(), "rev-parse", "--show-toplevel", advice=advice))
    if not (root / ".dvc").is_dir():
        raise RegistryError(f"{root} is no DVC repository: run `dvc init` in it first{otherwise}")
    return root


def run_git(folder: Path, *arguments: str, advice: str) -> str:
    """What git prints.

    Args:
        folder: A folder of the repository.
        arguments: The command.
        advice: What to do if it fails.

    Raises:
        RegistryError: Git is not installed, or refuses.
    """
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"LC_ALL": "C"},  # the reason is looked for by its English words
        )
    except FileNotFoundError as error:
        raise RegistryError("git is not installed, and the registry lives in git") from error
    except subprocess.CalledProcessError as error:
        reason = _reason(error.stderr) or str(error)
        raise RegistryError(
            f"git {arguments[0]} failed in {folder} ({reason}): {advice}"
        ) from error
    return result.stdout.strip()


def _reason(said: str) -> str | None:
    """The line in which git says why it failed; hints come before it and after it."""
    lines = [" ".join(line.split()) for line in said.splitlines()]
    # A refused tag also ends the connection, and fails those that were pushed with it.
    refused = [line for line in lines if line.startswith("! [") and "(atomic push" not in line]
    fatal = [line for line in lines if line.startswith("fatal:")]
    return next(iter([*refused, *fatal, *lines]), None)


def registered_files(path: str) -> list[str]:
    """Paths in the repository of a model file and of the files that belong to it."""
    return [file.as_posix() for file in model_files(PurePosixPath(path))]


def remote_settings(place: str) -> dict[str, Any]:
    """DVC's settings of the remote as they are now, for versions of before it moved.

    Args:
        place: Path or address of the git repository.
    """
    with Repo.open(place, uninitialized=True) as repository:
        name = repository.config["core"].get("remote")
        remote = repository.config["remote"].get(name)
        return {"core": {"remote": name}, "remote": {name: remote}} if remote else {}


def md5_at(place: str, path: str, revision: str) -> str | None:
    """MD5 of a file that DVC keeps, as a revision has it; None if DVC does not keep it there."""
    try:
        found: dict[str, Any] = DVCFileSystem(place, rev=revision).info(path)
    except FileNotFoundError:
        return None
    return found.get("md5")
