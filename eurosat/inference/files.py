"""The files of a model: the model file, and the companion files that belong to the model file."""

from pathlib import PurePath
from typing import TypeVar

from eurosat.inference.backends import find_backend

_Path = TypeVar("_Path", bound=PurePath)


def companions(path: _Path) -> list[_Path]:
    """Give the paths of a model file's companion files by its suffix; the files need not exist.

    Args:
        path: A model file, on a disk or in a bucket.

    Raises:
        ModelFileError: No backend reads files with the suffix.
    """
    return [path.with_suffix(suffix) for suffix in find_backend(path).companion_suffixes]


def model_files(path: _Path) -> list[_Path]:
    """Give the paths of a model file and its companion files.

    Args:
        path: A model file, on a disk or in a bucket.

    Raises:
        ModelFileError: No backend reads files with the suffix.
    """
    return [path, *companions(path)]
