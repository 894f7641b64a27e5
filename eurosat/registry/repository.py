"""The git repository that a registry lives in, and the files that DVC keeps in it."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from dvc.api import DVCFileSystem
from dvc.repo import Repo

from eurosat.errors import RegistryError

PLACE_VARIABLE = "EUROSAT_REGISTRY"
"""Environment variable with the git repository's path or address; here if it is not set."""


def find_repository() -> Path:
    """The root of the git repository here, which must also be one of DVC.

    Raises:
        RegistryError: There is none.
    """
    root = Path(run_git(Path.cwd(), "rev-parse", "--show-toplevel"))
    if not (root / ".dvc").is_dir():
        raise RegistryError(f"{root} is no DVC repository: run `dvc init` in it first")
    return root


def run_git(folder: Path, *arguments: str) -> str:
    """What git prints.

    Raises:
        RegistryError: Git is not installed, or refuses.
    """
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise RegistryError("git is not installed, and the registry lives in git") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()
        raise RegistryError(
            f"git {arguments[0]} failed in {folder} ({said[-1] if said else error}): the registry "
            f"lives in a git repository; call eurosat inside it, or set {PLACE_VARIABLE}"
        ) from error
    return result.stdout.strip()


def remote_settings(place: str) -> dict[str, Any]:
    """DVC's settings of the remote as they are now, for versions of before it moved.

    Args:
        place: Path or address of the git repository.
    """
    with Repo.open(place, uninitialized=True) as repository:
        name = repository.config["core"].get("remote")
        remote = repository.config["remote"].get(name)
        return {"core": {"remote": name}, "remote": {name: remote}} if remote else {}


def with_companion(path: str) -> list[str]:
    """An OpenVINO file has its weights in a file of their own."""
    return [path, path.removesuffix(".xml") + ".bin"] if path.endswith(".xml") else [path]


def md5_at(root: Path, path: str, revision: str) -> str | None:
    """MD5 of a file that DVC keeps, as a revision has it; None if DVC does not keep it there."""
    try:
        found: dict[str, Any] = DVCFileSystem(str(root), rev=revision).info(path)
    except FileNotFoundError:
        return None
    return found.get("md5")


def md5_of(path: Path) -> str:
    """MD5 is what DVC names contents by."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
