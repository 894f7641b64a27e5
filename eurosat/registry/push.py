"""Sharing a promoted model: the file goes to the DVC remote, the tags go to git's origin."""

from dataclasses import dataclass
from pathlib import Path

from dvc.api import artifacts_show
from dvc.repo import Repo

from eurosat.errors import RegistryError
from eurosat.registry.reference import Stage
from eurosat.registry.repository import md5_at, registered_files, remote_settings, run_git

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


def push_model(root: Path, promoted: Promoted) -> None:
    """Push the file, then the tags.

    Args:
        root: The git repository.
        promoted: The model.

    Raises:
        RegistryError: The file or the tags cannot be pushed, or DVC lacks the file. No tag was
            pushed.
    """
    settings = remote_settings(str(root))
    url = settings["remote"][settings["core"]["remote"]]["url"] if settings else PLACEHOLDER
    if url.startswith(PLACEHOLDER):
        raise RegistryError(
            "no DVC remote is configured: run `dvc remote modify storage url gs://BUCKET/PATH`"
        )
    # The path in the registered version may differ from the path in the working tree.
    path = artifacts_show(promoted.name, version=promoted.version, repo=str(root))["path"]
    names = registered_files(path)
    repository = Repo(str(root), config=settings)
    try:
        repository.push(targets=names, revs=[promoted.commit], workspace=False)
        # DVC only warns where it lacks a file.
        storage = repository.cloud.get_remote_odb(command="push")
        missing = [
            name
            for name in names
            if (md5 := md5_at(str(root), name, promoted.commit)) is None or not storage.exists(md5)
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
    run_git(root, "push", "--atomic", "origin", *promoted.tags, advice=advice)
