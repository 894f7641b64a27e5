"""The contents of a source before they are decoded."""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eurosat.data.published import is_published_name
from eurosat.errors import DataSourceError
from eurosat.image_checks import BandOrder
from eurosat.labels import canonical_class
from eurosat.pixels import Patch


@dataclass(frozen=True)
class Listing:
    """The contents of a source before they are decoded.

    Attributes:
        names: One unique ``Class/file`` name per patch.
        labels: One index into the classes per patch.
        splits: The source's own split of each patch (train, val, test), or None.
        read: Gives patch ``i`` and the bytes of the patch's file; None if there is no file.
    """

    names: list[str]
    labels: list[int]
    splits: list[str | None]
    read: Callable[[int], tuple[Patch, bytes | None]]


def band_order_of(name: str, given: tuple[str, ...] | None) -> BandOrder:
    """The order of a file's bands if the file does not name its bands; empty if unknown."""
    return given or ("published" if is_published_name(name) else ())


def _as_option(names: Sequence[str]) -> str:
    """Write names as the value of an option: YAML would read [1, no] as a number and a truth."""
    return shlex.quote(json.dumps(names, ensure_ascii=False))


def match_labels(found: Sequence[str], classes: tuple[str, ...], location: str) -> list[int]:
    """Match the names of class folders, or of hub labels, to the classes.

    Args:
        found: One name per patch.
        classes: Class names in label order.
        location: The source, for messages.

    Returns:
        One index into the classes per patch.

    Raises:
        DataSourceError: A name is not among the classes, or two names mean one class.
    """
    indices: dict[str, int] = {}
    for name in sorted(set(found)):
        match = canonical_class(name, classes)
        if match is None:
            raise DataSourceError(
                f"{location} has a class folder '{name}', which is not among the classes "
                f"{', '.join(classes)}: for your own classes pass --data.classes "
                f"{_as_option(sorted(set(found)))}"
            )
        index = classes.index(match)
        if index in indices.values():
            others = [other for other in indices if indices[other] == index]
            raise DataSourceError(
                f"{location} has '{others[0]}' and '{name}', two names of the class {match}: "
                "rename one of the folders, or move its images into the other folder"
            )
        indices[name] = index
    return [indices[name] for name in found]
