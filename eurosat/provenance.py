"""Where a result comes from: the revision of the code and the versions of the packages."""

import importlib.metadata
import logging
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GitState:
    """The revision of a checkout.

    Attributes:
        revision: The full hash of the commit.
        dirty: Whether tracked files differ from the commit.
    """

    revision: str
    dirty: bool


_REVISION = "EUROSAT_REVISION"
"""Environment variable of the container images: the revision, with -dirty if it had changes."""


def git_state() -> GitState | None:
    """Revision of the checkout that this package runs from, and whether it has changes.

    A container image has no checkout; the environment variable ``EUROSAT_REVISION`` names the
    revision that the image was built from.

    Returns:
        None if git does not track this package, as in an environment inside another project's
        repository, or if git cannot read the checkout, which a warning explains.
    """
    revision, dirty, _ = os.environ.get(_REVISION, "").partition("-dirty")
    named = GitState(revision, bool(dirty)) if revision else None
    module = Path(__file__)
    if not any((folder / ".git").exists() for folder in module.parents):
        return named

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(module.parent), *arguments],
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout.strip()

    try:
        if not git("ls-files", module.name):
            return named
        changes = git("status", "--porcelain", "--untracked-files=no")
        return GitState(git("rev-parse", "HEAD"), bool(changes))
    except (OSError, subprocess.CalledProcessError) as error:
        if named is None:
            reason = " ".join(str(getattr(error, "stderr", None) or error).split())
            _log.warning("the revision of the code is not recorded, because git fails: %s", reason)
        return named


def package_version(package: str) -> str | None:
    """Version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
