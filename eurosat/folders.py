"""Paths and folders of images as people have them: with links, hidden files and stray files."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from eurosat.errors import DataSourceError, SettingsError

# Folders that macOS, Synology and Windows add; they hold previews and deleted files.
_OF_THE_SYSTEM = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})


def is_hidden(parts: Sequence[str]) -> bool:
    """Whether one of the components of a path is a hidden file or a folder of a system."""
    return any(part.startswith(".") or part in _OF_THE_SYSTEM for part in parts)


def user_path(text: str) -> Path:
    """The path that a user means, with "~" for the home folder; a shell expands not every "~"."""
    return Path(os.path.expanduser(text))  # Path.expanduser raises an error for "~name"


def refuse_blank(**paths: str) -> None:
    """Refuse blank paths of the data, by the name of their setting; "" is the current folder.

    Raises:
        SettingsError: A path is blank.
    """
    for name, path in paths.items():
        if not path.strip():
            raise SettingsError(
                f"--data.{name} is blank, perhaps because a variable of the shell is not set: give "
                f"--data.{name} a value, or leave it out"
            )


def check_reachable(path: Path) -> None:
    """Refuse a path that the system cannot look up; a path that does not exist is accepted.

    Raises:
        DataSourceError: A folder above the path cannot be entered, or the path is too long.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise DataSourceError(
            f"{path} cannot be read ({error.strerror}): correct the path, or change the rights of "
            "its folders"
        ) from error


def walk(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Find the files in a folder and its subfolders, and follow links.

    Hidden files, folders of the system, and what is neither file nor folder are left out.

    Args:
        folder: The folder.
        above: The real paths of the folders that contain ``folder`` in this walk.

    Yields:
        The files in sorted order, as paths below ``folder``.

    Raises:
        DataSourceError: A folder cannot be read, or a link leads nowhere or to a folder that
            contains the link.
    """
    real = os.path.realpath(folder)
    if real in above:
        raise DataSourceError(
            f"{folder} is a link to {real}, which contains the link: delete the link"
        )
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataSourceError(
            f"the folder {folder} cannot be read ({error.strerror}): change the rights of the "
            "folder, or give another folder"
        ) from error
    for entry in entries:
        if is_hidden([entry.name]):
            continue
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise DataSourceError(
                f"{entry.path} is a link to {os.readlink(entry.path)}, which does not exist: "
                "delete the link, or restore the file or folder"
            )
        if entry.is_dir():
            yield from walk(Path(entry.path), above | {real})
        elif entry.is_file():
            yield Path(entry.path)
