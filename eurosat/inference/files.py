"""The files that a model consists of: the one that is named, and those that belong to it."""

from pathlib import PurePath
from typing import TypeVar

_Path = TypeVar("_Path", bound=PurePath)

_COMPANIONS = {".xml": (".bin",)}
"""Endings of the files beside a model file: OpenVINO keeps the weights apart."""


def companions(path: _Path) -> list[_Path]:
    """The files that a model file needs beside it, by its ending; they need not exist.

    Args:
        path: A model file, on a disk or in a bucket.
    """
    return [path.with_suffix(suffix) for suffix in _COMPANIONS.get(path.suffix, ())]


def model_files(path: _Path) -> list[_Path]:
    """A model file and the files that belong to it.

    Args:
        path: A model file, on a disk or in a bucket.
    """
    return [path, *companions(path)]
