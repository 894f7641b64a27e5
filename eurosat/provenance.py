"""Where a result comes from: the revision of the code and the versions of the packages."""

import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any


def git_state() -> dict[str, Any] | None:
    """Revision of the checkout that this package runs from, and whether it has changes.

    Returns:
        ``{"revision": <SHA>, "dirty": <bool>}``; None if git does not track this package, as in
        an environment inside another project's repository.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(dirty)}
    except (OSError, subprocess.CalledProcessError):
        return None


def package_version(package: str) -> str | None:
    """Version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
