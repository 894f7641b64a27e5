"""The registry of backends and formats, which come from this folder and from installed packages.

Every module of this folder registers its backend and its formats when it is imported. An installed
package names a module as an entry point of the group ``eurosat.backends``. Every process, such as a
worker of a service, imports the module, and the module registers its backend and its formats.
"""

import importlib
import pkgutil
from functools import cache
from pathlib import PurePath

from eurosat.errors import ExportError, ModelFileError
from eurosat.inference.backend import Backend, Format
from eurosat.plugins import load_plugins

ENTRY_POINTS = "eurosat.backends"
"""Group of the entry points that name modules with further backends and formats."""

_backends: dict[str, type[Backend]] = {}  # by suffix
_formats: dict[str, Format] = {}  # by name


def register_backend(backend: type[Backend]) -> type[Backend]:
    """Add a backend; the function is a class decorator.

    Raises:
        ValueError: The suffix has no dot, or another backend has the same suffix.
    """
    if not backend.suffix.startswith("."):
        raise ValueError(
            f"the suffix {backend.suffix!r} of {backend.__name__} has no dot: put a dot before the "
            "suffix"
        )
    if _backends.setdefault(backend.suffix, backend) is not backend:
        taken = _backends[backend.suffix].__name__
        raise ValueError(
            f"{taken} already reads files that end in {backend.suffix}: choose another suffix"
        )
    return backend


def register_format(format: Format) -> None:
    """Add a format.

    Raises:
        ValueError: Another format has the same name.
    """
    if _formats.setdefault(format.name, format) is not format:
        raise ValueError(f"there is already a format {format.name}: choose another name")


def formats() -> dict[str, Format]:
    """Give the formats that `eurosat export` writes, by name."""
    _load()
    return dict(_formats)


def find_format(name: str) -> Format:
    """Find a format by its name.

    Raises:
        ExportError: There is no such format.
    """
    known = formats()
    if name not in known:
        raise ExportError(f"there is no format '{name}': choose --format {', '.join(known)}")
    return known[name]


def model_suffixes() -> tuple[str, ...]:
    """Give the suffixes of model files."""
    _load()
    return tuple(_backends)


def find_backend(path: PurePath) -> type[Backend]:
    """Find the backend that runs a file, by the file's suffix.

    Raises:
        ModelFileError: No backend reads files with the suffix.
    """
    suffixes = model_suffixes()
    if path.suffix not in suffixes:
        raise ModelFileError(
            f"{path} is not a model file that an installed backend reads: give a file that ends "
            f"in {', '.join(suffixes)}, or install a package that reads {path.suffix or 'such'} "
            "files"
        )
    return _backends[path.suffix]


@cache
def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    load_plugins(ENTRY_POINTS)
