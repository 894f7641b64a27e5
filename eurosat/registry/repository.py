"""The repository of a registry: git holds the tags, and DVC tracks the model files."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dvc.repo import Repo

from eurosat.errors import RegistryError
from eurosat.inference.files import model_files

PLACE_VARIABLE = "EUROSAT_REGISTRY"
"""Environment variable with the path or address of the registry's repository.

``ADDRESS#FOLDER`` names a DVC repository in a folder of a git repository. The default is the
repository of the current folder.
"""


@dataclass(frozen=True)
class Repository:
    """A DVC repository: a whole git repository, or a folder of one (``dvc init --subdir``).

    Attributes:
        git: Path or address of the git repository.
        folder: Path of the DVC repository in the git repository; "" for the whole repository.
    """

    git: str
    folder: str = ""

    def __str__(self) -> str:
        """The repository as `PLACE_VARIABLE` names it."""
        return f"{self.git}#{self.folder}" if self.folder else self.git

    @property
    def path(self) -> Path:
        """Path of the DVC repository on this machine."""
        return Path(self.git, self.folder)

    def gto_name(self, name: str) -> str:
        """GTO's name of an artifact, which differs for equal names in two folders."""
        return f"{self.folder}:{name}" if self.folder else name

    @contextmanager
    def opened(
        self, revision: str | None = None, settings: dict[str, Any] | None = None
    ) -> Iterator[Repo]:
        """Open the DVC repository.

        Args:
            revision: A git revision; None for the working tree, and for the newest commit of a
                repository that is on another machine.
            settings: Settings of DVC, which take precedence over those of the repository.
        """
        with Repo.open(self.git, rev=revision, uninitialized=True) as whole:
            root = whole.fs.join(whole.root_dir, self.folder)
            yield Repo(root, fs=whole.fs, scm=whole.scm, config=settings, uninitialized=True)

    def remote_settings(self) -> dict[str, Any]:
        """DVC's current settings of the remote, for versions registered before a move."""
        with self.opened() as repo:
            name = repo.config["core"].get("remote")
            remote = repo.config["remote"].get(name)
            return {"core": {"remote": name}, "remote": {name: remote}} if remote else {}

    def md5_at(self, path: str, revision: str) -> str | None:
        """MD5 of a file that DVC tracks at a revision; None if DVC does not track the file there.

        Args:
            path: Path of the file in the DVC repository.
            revision: The git revision.
        """
        with self.opened(revision) as repo:
            try:
                found: dict[str, Any] = repo.dvcfs.info(path)
            except FileNotFoundError:
                return None
            return found.get("md5")

    def artifacts_at(self, revision: str) -> dict[str, str]:
        """Paths of the artifacts that ``dvc.yaml`` declares at a revision, by name."""
        with self.opened(revision) as repo:
            declared = repo.artifacts.read().get("dvc.yaml", {})
        return {name: str(artifact.path) for name, artifact in declared.items()}

    def artifact_at(self, name: str, revision: str) -> str:
        """Path of a registered artifact.

        Raises:
            RegistryError: ``dvc.yaml`` declares no such artifact at the revision.
        """
        path = self.artifacts_at(revision).get(name)
        if path is None:
            raise RegistryError(
                f"dvc.yaml of {self} at {revision[:8]} declares no artifact {name}: declare the "
                "model under `artifacts:`, commit, and promote the model again"
            )
        return path


def named_repository() -> Repository | None:
    """The repository that `PLACE_VARIABLE` names; None if the variable is not set.

    Raises:
        RegistryError: The variable names a folder with DVC's settings outside of a git repository.
    """
    place = os.environ.get(PLACE_VARIABLE)
    if not place:
        return None
    if Path(place, Repo.DVC_DIR).is_dir():
        return find_repository(Path(place))
    address, _, folder = place.partition("#")
    return Repository(address, folder.strip("/"))


def find_repository(start: Path, otherwise: str = "") -> Repository:
    """The DVC repository that a folder of a git repository lies in.

    Args:
        start: The folder.
        otherwise: A further remedy for the error message.

    Raises:
        RegistryError: The folder is in no such repository.
    """
    advice = f"call eurosat inside the git repository of the registry{otherwise}"
    top = Path(run_git(start, "rev-parse", "--show-toplevel", advice=advice))
    for folder in (start.resolve(), *start.resolve().parents):
        if folder.is_relative_to(top) and (folder / Repo.DVC_DIR).is_dir():
            inside = folder.relative_to(top).as_posix()
            return Repository(str(top), "" if inside == "." else inside)
    raise RegistryError(f"{top} is not a DVC repository: run `dvc init` in {top}{otherwise}")


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
            ["git", "-C", str(folder), "-c", "core.quotePath=false", *arguments],
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
        if "dubious ownership" in error.stderr:
            remedy = error.stderr.strip().rpartition("\n")[2].strip()
            advice = f"if you trust the folder's owner, run `{remedy}`"
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
