"""The files that a model consists of: the one that is named, and those that belong to it."""

from pathlib import PurePath
from typing import TypeVar

from eurosat.inference.backends import find_backend

_Path = TypeVar("_Path", bound=PurePath)


def companions(path: _Path) -> list[_Path]:
    """The files that a model file needs beside it, by its ending; they need not exist.

    Args:
        path: A model file, on a disk or in a bucket.

    Raises:
        ModelFileError: No backend reads files of this ending.
    """
    return [path.with_suffix(suffix) for suffix in find_backend(path).companion_suffixes]


def model_files(path: _Path) -> list[_Path]:
    """A model file and the files that belong to it.

    Args:
        path: A model file, on a disk or in a bucket.

    Raises:
        ModelFileError: No backend reads files of this ending.
    """
    return [path, *companions(path)]
