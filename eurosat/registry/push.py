"""Sharing a promoted model: its file goes to the DVC remote, its tags to git's origin."""

from dataclasses import dataclass
from pathlib import Path

from dvc.api import artifacts_show
from dvc.repo import Repo

from eurosat.errors import RegistryError
from eurosat.registry.reference import Stage
from eurosat.registry.repository import md5_at, registered_files, remote_settings, run_git

PLACEHOLDER = "gs://your-bucket"
"""The bucket in the committed ``.dvc/config``, which is nobody's."""


@dataclass(frozen=True)
class Promoted:
    """A model in a stage.

    Attributes:
        name: The model's name.
        version: Its version, such as ``"v0.1.0"``.
        stage: Its stage.
        commit: Git revision that holds its checksum.
        tags: The tags that others need: the version's, and the stage's that was made.
    """

    name: str
    version: str
    stage: Stage
    commit: str
    tags: list[str]


def push_model(root: Path, promoted: Promoted) -> None:
    """Push the file, and then the tags.

    Args:
        root: The git repository.
        promoted: The model.

    Raises:
        RegistryError: The file or the tags cannot be pushed, or DVC has no such file; no tag was
            pushed.
    """
    settings = remote_settings(str(root))
    url = settings["remote"][settings["core"]["remote"]]["url"] if settings else PLACEHOLDER
    if url.startswith(PLACEHOLDER):
        raise RegistryError(
            "no DVC remote is set up: `dvc remote modify storage url gs://BUCKET/PATH` sets yours"
        )
    # The place that the version has it at, which may not be that of the files here.
    path = artifacts_show(promoted.name, version=promoted.version, repo=str(root))["path"]
    names = registered_files(path)
    repository = Repo(str(root), config=settings)
    try:
        repository.push(targets=names, revs=[promoted.commit], workspace=False)
        # DVC only warns of a file that it does not have.
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
            f"nor at {url}: run `dvc push` where it was made"
        )
    advice = (
        "check origin and your rights to it (`git remote --verbose`), and get a colleague's tags, "
        "if that is who promoted, with `git fetch --tags`"
    )
    run_git(root, "push", "--atomic", "origin", *promoted.tags, advice=advice)
