"""Sharing a promoted model: the file goes to the DVC remote, the tags go to git's origin."""

import os
from dataclasses import dataclass

from dvc.repo import Repo

from eurosat.errors import RegistryError
from eurosat.registry.reference import Stage
from eurosat.registry.repository import Repository, registered_files, run_git

PLACEHOLDER = "gs://your-bucket"
"""The placeholder bucket in the committed ``.dvc/config``."""


@dataclass(frozen=True)
class Promoted:
    """A model in a stage.

    Attributes:
        name: The model's name.
        version: Its version, such as ``"v0.1.0"``.
        stage: Its stage.
        commit: Git revision that holds its checksum.
        tags: The version's tag and the stage's tag.
    """

    name: str
    version: str
    stage: Stage
    commit: str
    tags: list[str]


def push_model(repository: Repository, promoted: Promoted) -> None:
    """Push the file, then the tags.

    Args:
        repository: The repository on this machine.
        promoted: The model.

    Raises:
        RegistryError: The file or the tags cannot be pushed, or DVC lacks the file. No tag was
            pushed.
    """
    settings = repository.remote_settings()
    url = settings["remote"][settings["core"]["remote"]]["url"] if settings else PLACEHOLDER
    if url.startswith(PLACEHOLDER):
        raise RegistryError(
            "no DVC remote is configured: run `dvc remote modify storage url gs://BUCKET/PATH`"
        )
    # The path in the registered version may differ from the path in the working tree.
    path = repository.artifact_at(promoted.name, promoted.commit)
    names = registered_files(path)
    pushing = Repo(str(repository.path), config=settings)
    try:
        # DVC reads a target as a path in the current folder.
        targets = [os.path.relpath(repository.path / name) for name in names]
        pushing.push(targets=targets, revs=[promoted.commit], workspace=False)
        # DVC only warns where it lacks a file.
        storage = pushing.cloud.get_remote_odb(command="push")
        missing = [
            name
            for name in names
            if (md5 := repository.md5_at(name, promoted.commit)) is None or not storage.exists(md5)
        ]
    except Exception as error:  # every kind of storage has errors of its own
        raise RegistryError(
            f"{path} cannot be pushed to {url} ({type(error).__name__}: {error}): check the "
            "address, the network and your rights"
        ) from error
    if missing:
        raise RegistryError(
            f"{', '.join(missing)} of {promoted.name} {promoted.version} is neither in DVC's cache "
            f"nor at {url}: run `dvc push` on the machine that made it"
        )
    advice = (
        "check origin and your rights to it (`git remote --verbose`); if a colleague promoted the "
        "model, run `git fetch --tags` first"
    )
    run_git(repository.path, "push", "--atomic", "origin", *promoted.tags, advice=advice)
