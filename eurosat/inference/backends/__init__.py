"""The backends and formats there are: those of this folder, and those of installed packages.

Every module of this folder registers what it brings when it is imported. A package of somebody
else does the same and names its module as an entry point of the group ``eurosat.backends``, so that
every process, including the workers of a service, finds it.
"""

import importlib
import importlib.metadata
import logging
import pkgutil
from functools import cache
from pathlib import PurePath

from eurosat.errors import ExportError, ModelFileError
from eurosat.inference.backend import Backend, Format

ENTRY_POINTS = "eurosat.backends"
"""Group of the entry points that name modules with further backends and formats."""

_log = logging.getLogger(__name__)

_backends: dict[str, type[Backend]] = {}  # by ending
_formats: dict[str, Format] = {}  # by name


def register_backend(backend: type[Backend]) -> type[Backend]:
    """Add a backend; used as a class decorator.

    Raises:
        ValueError: The ending has no dot, or another backend has it.
    """
    if not backend.suffix.startswith("."):
        raise ValueError(f"the ending {backend.suffix!r} of {backend.__name__} has no dot")
    if _backends.setdefault(backend.suffix, backend) is not backend:
        taken = _backends[backend.suffix].__name__
        raise ValueError(f"{taken} already reads files that end in {backend.suffix}")
    return backend


def register_format(format: Format) -> None:
    """Add a format.

    Raises:
        ValueError: Another format has the name.
    """
    if _formats.setdefault(format.name, format) is not format:
        raise ValueError(f"there is already a format {format.name}")


def formats() -> dict[str, Format]:
    """The formats that `eurosat export` writes, by name."""
    _load()
    return dict(_formats)


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
        ExportError: There is no such format.
    """
    known = formats()
    if name not in known:
        raise ExportError(f"there is no format '{name}': choose --format {', '.join(known)}")
    return known[name]


def model_suffixes() -> tuple[str, ...]:
    """Endings of model files."""
    _load()
    return tuple(_backends)


def find_backend(path: PurePath) -> type[Backend]:
    """The backend that runs a file, by the file's ending.

    Raises:
        ModelFileError: No backend reads such files.
    """
    suffixes = model_suffixes()
    if path.suffix not in suffixes:
        raise ModelFileError(
            f"{path} is no model file: expected an ending of {', '.join(suffixes)}, or a package "
            "that reads other files"
        )
    return _backends[path.suffix]


@cache
def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # a model in another format must still be served
            _log.warning(
                "the formats of the plugin %s cannot be used (%s: %s): upgrade or uninstall %s",
                point.name,
                type(error).__name__,
                error,
                point.dist.name if point.dist else point.value,
            )
