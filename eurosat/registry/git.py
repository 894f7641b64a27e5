"""The git registry: GTO's tags name versions and stages, and DVC stores the files.

A version is a tag on a commit. The ``dvc.lock`` of the commit holds the checksum of the model file,
and DVC's cache or remote holds the file. The git registry needs no server.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dvc.exceptions import DvcException
from pygit2 import GitError
from scmrepo.exceptions import SCMError

from eurosat.errors import RegistryError
from eurosat.files import md5_of
from eurosat.inference.runtime import open_model
from eurosat.metrics import metric_named
from eurosat.registry.gto_api import ArtifactNotFound, GTOException, api
from eurosat.registry.push import Promoted, push_model
from eurosat.registry.reference import Reference, Stage, check_referable
from eurosat.registry.repository import (
    PLACE_VARIABLE,
    Repository,
    find_repository,
    named_repository,
    registered_files,
    run_git,
)


@dataclass(frozen=True)
class _Version:
    """A registered version.

    Attributes:
        name: Such as ``"v0.1.0"``.
        commit: Its git revision.
        stages: The version's stages, each with the tag that assigned it.
    """

    name: str
    commit: str
    stages: dict[str, str]


def promote(model: Path | Reference, stage: Stage, *, version: str | None, push: bool) -> Promoted:
    """Put a model into a stage, and register the file first if it has no version yet.

    Every check runs before the first tag is created. If a later step fails, the created tags are
    deleted.

    Args:
        model: A model file that DVC tracks, or a registered version.
        stage: The stage.
        version: The new version, such as ``"v1.0.0"``; the next patch version if not given.
        push: Whether to push the file to the DVC remote and the tags to git's ``origin``.

    Returns:
        The promoted model.

    Raises:
        RegistryError: The model cannot be registered as requested. Nothing was registered.
    """
    repository = find_repository(Path.cwd())
    made: list[str] = []
    with _named_errors(), _taking_back(repository.path, made):
        if isinstance(model, Reference):
            name, known = model.name, _resolve(model, repository).name
        else:
            name, path = _check_file(repository, model)
            check_referable(
                name, version or "v0.0.1"
            )  # GTO accepts versions that no reference can name
            known = _version_of(repository, name, path) or _register(
                repository, name, path, version, made
            )
        if version not in (None, known):
            raise RegistryError(f"{model} is {name} {known} already: remove --version")
        (registered,) = (v for v in _versions(repository, name) if v.name == known)
        tag = registered.stages.get(stage)
        if tag is None:
            tag = _assign(repository, name, known, stage, made)
        elif not push:
            raise RegistryError(
                f"{name} {known} is in {stage} already: pass --push true to share it"
            )
        # The stage's tag needs the version's tag, which may be older.
        tags = [f"{repository.gto_name(name).replace(':', '=')}@{known}", tag]  # as GTO writes it
        promoted = Promoted(name, known, stage, registered.commit, tags)
        if push:
            push_model(repository, promoted)
    return promoted


def fetch(reference: Reference, folder: Path) -> None:
    """Fetch a registered model through DVC, and verify its checksum.

    Args:
        reference: The model. `PLACE_VARIABLE` names the repository; the default is the
            repository of the current folder.
        folder: An empty folder for the file.

    Raises:
        RegistryError: The version or stage does not exist, or its file cannot be fetched or is
            damaged.
    """
    repository = named_repository() or find_repository(Path.cwd(), f", or set {PLACE_VARIABLE}")
    try:
        version = _resolve(reference, repository)
    except (GTOException, SCMError, GitError) as error:
        raise RegistryError(
            f"the registry {repository} cannot be opened ({error}): check the path or address in "
            f"{PLACE_VARIABLE}, the network and your rights, or unset it to use the repository here"
        ) from error
    with (
        _named_errors(),
        repository.opened(version.commit, repository.remote_settings()) as registered,
    ):
        for name in registered_files(repository.artifact_at(reference.name, version.commit)):
            target = folder / Path(name).name
            expected = repository.md5_at(name, version.commit)
            if expected is None:
                raise RegistryError(
                    f"DVC does not track {name} of {reference} at {version.name}: run `dvc add "
                    f"{name}`, commit, and promote it again"
                )
            try:
                registered.dvcfs.get_file(name, str(target))
            except Exception as error:  # each kind of storage raises its own errors
                raise RegistryError(
                    f"{name} of {reference} is neither in DVC's cache nor on its remote "
                    f"({type(error).__name__}: {error}): run `dvc push` on the machine that made "
                    "the file, and check the remote of `dvc remote list` and your rights to it"
                ) from error
            if md5_of(target) != expected:
                target.unlink()
                raise RegistryError(
                    f"{name} of {reference} is damaged: its MD5 is not {expected} of dvc.lock; "
                    "delete the file from the cache or remote, and push it again"
                )


def _check_file(repository: Repository, model: Path) -> tuple[str, str]:
    """Name and path of a file that can be registered: a committed model file that DVC tracks."""
    root = repository.path
    run_git(root, "log", "-1", advice="commit the code, dvc.yaml and the model's .dvc file first")
    status = ("status", "--porcelain", "--untracked-files=no")
    if changed := run_git(root, *status, advice="repair the repository"):
        first = changed.splitlines()[0].split(maxsplit=1)[-1]
        raise RegistryError(
            f"{root} has uncommitted changes ({first}): commit them, so that the version's tag "
            "holds the code that made the model"
        )
    open_model(model, threads=1)  # raises a named error if the file is no model
    try:
        path = model.resolve().relative_to(root.resolve()).as_posix()
    except ValueError as error:
        raise RegistryError(
            f"{model} lies outside of the DVC repository {root}: copy the file into the repository"
        ) from error
    for name in registered_files(path):
        committed = repository.md5_at(name, "HEAD")
        if committed is None:
            raise RegistryError(
                f"DVC does not track {name} at HEAD: make the file with `dvc repro`, or run "
                f"`dvc add {name}`, and commit"
            )
        if committed != md5_of(root / name):
            raise RegistryError(
                f"{name} differs from the file of HEAD's dvc.lock: run `dvc repro` or `dvc commit` "
                "and commit, or restore the committed file with `dvc checkout`"
            )
    declared = repository.artifacts_at("HEAD")  # what a fetch sees
    names = [name for name, artifact in declared.items() if artifact == path]
    if not names:
        raise RegistryError(
            f"HEAD's dvc.yaml declares no artifact with the path {path}: add it under "
            "`artifacts:`, and commit"
        )
    return names[0], path


def _version_of(repository: Repository, name: str, path: str) -> str | None:
    """The newest registered version with exactly this file."""
    files = registered_files(path)
    wanted = [md5_of(repository.path / file) for file in files]
    for version in _versions(repository, name):
        if [repository.md5_at(file, version.commit) for file in files] == wanted:
            return version.name
    return None


def _register(
    repository: Repository, name: str, path: str, version: str | None, made: list[str]
) -> str:
    card = open_model(repository.path / path, threads=1).card
    found = metric_named("accuracy").text((card.metrics or {}).get("accuracy"))
    accuracy = f", test accuracy {found}" if card.metrics else ""
    data = ", trained on synthetic data" if card.synthetic else ""
    registration = api.register(
        repository.git,
        repository.gto_name(name),
        "HEAD",
        version=version,
        message=f"{card.version}{accuracy}{data}",
    )
    made.append(registration.tag)
    return str(registration.version)


def _assign(repository: Repository, name: str, version: str, stage: Stage, made: list[str]) -> str:
    assignment = api.assign(
        repository.git,
        repository.gto_name(name),
        stage,
        version=version,
        message=f"{name} {version} to {stage}",
        skip_registration=True,
        force=True,  # a version may return to an earlier stage
    )
    made.append(assignment.tag)
    return str(assignment.tag)


def _resolve(reference: Reference, repository: Repository) -> _Version:
    """The version that a reference names."""
    versions = _versions(repository, reference.name)
    for version in versions:
        if version.name == reference.version or reference.stage in version.stages:
            return version
    there = ", ".join(
        f"{version.name}{''.join(f' ({stage})' for stage in version.stages)}"
        for version in versions
    )
    raise RegistryError(
        f"{reference} does not exist; {repository} has {there or 'no version of this model'}: "
        "promote a model with `eurosat promote`, or fetch the tags with `git fetch --tags`"
    )


def _versions(repository: Repository, name: str) -> list[_Version]:
    """Registered versions of a model, newest first, with their current stages.

    A stage belongs to the version whose tag for the stage has the highest number. GTO itself
    compares the tags' times, which are whole seconds and may be equal.
    """
    try:
        rows = api.show(
            repository.git,
            repository.gto_name(name),
            registered_only=True,
            versions_per_stage=-1,
        )
    except ArtifactNotFound:
        return []
    holders: dict[str, tuple[int, str, str]] = {}
    for row in rows:
        for held in row["stages"]:
            for assignment in held["assignments"] if held["is_active"] else []:
                tag = str(assignment["tag"])
                claim = (int(tag.rpartition("#")[2]), str(row["version"]), tag)
                holders[held["stage"]] = max(claim, holders.get(held["stage"], claim))
    return [
        _Version(
            str(row["version"]),
            str(row["commit_hexsha"]),
            {stage: tag for stage, (_, holder, tag) in holders.items() if holder == row["version"]},
        )
        for row in rows
    ]


@contextmanager
def _taking_back(root: Path, made: list[str]) -> Iterator[None]:
    """Delete the created tags if the block fails."""
    try:
        yield
    except BaseException:
        if made:
            run_git(
                root, "tag", "--delete", *made, advice="delete these tags with git tag --delete"
            )
        raise


@contextmanager
def _named_errors() -> Iterator[None]:
    """Convert errors of GTO, DVC and git to `RegistryError`."""
    try:
        yield
    except (GTOException, DvcException, SCMError, GitError) as error:
        raise RegistryError(
            f"the git registry failed ({error}): check the repository and its tags"
        ) from error
