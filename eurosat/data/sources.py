"""Sources of patches: the HF hub, a local archive or folder, and the synthetic generator.

Each source becomes a :class:`Listing`: names, labels, the source's own splits, and a function that
reads one patch. :mod:`eurosat.data.hub` downloads from the hub and reads the hub's rows;
:mod:`eurosat.data.files` finds and reads the files of archives and folders.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eurosat.data.files import (
    SPLIT_NAMES,
    FileReader,
    ImageFile,
    archive_contents,
    folder_contents,
    images_in_archive,
    images_in_folder,
    without_twins,
)
from eurosat.data.hub import download_archive, list_rows
from eurosat.data.listing import Listing, band_order_of, match_labels
from eurosat.data.published import HUB_FILES, HUB_REPOSITORY
from eurosat.errors import DataSourceError, SettingsError
from eurosat.folders import check_reachable, user_path
from eurosat.labels import CLASSES, canonical_class, check_classes
from eurosat.pixels import Patch, as_channels, decode

_SYNTHETIC_VERSION = 1  # raise it when the generator's patches change
_MOST_SYNTHETIC = 1_000_000
"""Limit of the patches of the synthetic source, which take 12 GB, or 106 GB with all bands."""


@dataclass(frozen=True)
class Source:
    """A source that has been found but not yet listed.

    Attributes:
        name: Short name for folders and reports, such as ``"EuroSAT_RGB"``.
        fingerprint: SHA-256 that changes with the source's contents and with the settings that
            read the source.
        synthetic: Whether the patches are generated, not observed.
        list: Lists the contents.
    """

    name: str
    fingerprint: str
    synthetic: bool
    list: Callable[[], Listing]


def find_source(
    source: str,
    *,
    rgb: bool,
    classes: Sequence[str] = CLASSES,
    revision: str | None = None,
    synthetic_images: int = 4000,
    band_order: tuple[str, ...] | None = None,
) -> Source:
    """Find a data source.

    Args:
        source: ``"hub"``, a hub data set id ``"owner/name"``, ``"synthetic"``, or the path of a
            ``.zip`` archive or folder that holds one folder of images per class.
        rgb: Whether to read the 8-bit rendition rather than the thirteen bands.
        classes: Class names in label order.
        revision: Commit of the hub data set, 40 digits; required for ``"owner/name"``.
        synthetic_images: Number of patches that ``"synthetic"`` generates.
        band_order: Names of the thirteen bands of files and arrays that do not name their bands. If
            not given, only files with the names of EuroSAT's files may leave their bands unnamed.

    Returns:
        The source.

    Raises:
        DataSourceError: There is no such source, it cannot be read, or it needs a commit.
        SettingsError: A class is named twice, or the number of synthetic patches is over the limit.
    """
    classes = tuple(classes)
    check_classes(classes)
    settings: dict[str, Any] = {"rgb": rgb, "classes": classes}
    if band_order is not None:
        settings |= {"band_order": band_order}
    path = user_path(source)
    check_reachable(path)
    find: Callable[[Path], list[ImageFile]]
    if source == "synthetic":
        if synthetic_images > _MOST_SYNTHETIC:
            raise SettingsError(
                f"{synthetic_images} synthetic patches would fill the disk: pass at most "
                f"--data.synthetic_images {_MOST_SYNTHETIC}"
            )
        settings |= {"images": synthetic_images, "version": _SYNTHETIC_VERSION}
        return Source(
            "synthetic",
            _digest("synthetic", settings),
            True,
            lambda: _synthetic(synthetic_images, rgb, classes),
        )
    if source == "hub":
        archive = HUB_FILES[rgb]
        commit = _commit(revision or archive.revision)
        url = f"hf://datasets/{HUB_REPOSITORY}@{commit}/{archive.file}"
        return Source(
            Path(archive.file).stem,
            _digest(url, settings),
            False,
            lambda: _image_files(
                images_in_archive(download_archive(commit, rgb=rgb)), url, rgb, classes, band_order
            ),
        )
    if path.is_file() and path.suffix.lower() == ".zip":
        settings |= {"contents": archive_contents(path)}
        find = images_in_archive
    elif path.is_dir():
        settings |= {"contents": folder_contents(path)}
        find = images_in_folder
    elif source.count("/") == 1 and not path.exists() and path.suffix != ".zip":
        if revision is None:
            raise DataSourceError(
                f"{source} is neither a file nor a folder, and a data set on the hub needs a "
                "commit: correct the path, or pass --data.revision <commit>"
            )
        commit = _commit(revision)
        return Source(
            source.replace("/", "_"),
            _digest(source, settings | {"revision": commit}),
            False,
            lambda: list_rows(source, commit, rgb, classes, band_order),
        )
    elif path.is_file():
        raise DataSourceError(
            f"{source} is neither a .zip archive nor a folder: unpack another archive, and give "
            "the folder that holds one folder of images per class"
        )
    else:
        raise DataSourceError(
            f"there are no data at {source}: give a .zip archive, a folder with one folder of "
            "images per class, 'hub' to download EuroSAT, or 'synthetic'"
        )
    return Source(
        path.resolve().stem,
        _digest("files", settings),
        False,
        lambda: _image_files(find(path.resolve()), source, rgb, classes, band_order),
    )


def _commit(revision: str) -> str:
    """Refuse a branch or a tag, which can move to other data."""
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise DataSourceError(
            f"--data.revision {revision} is not a commit, and a branch or a tag can move to other "
            "data: pass the 40 digits of a commit of the hub"
        )
    return revision


def _synthetic(count: int, rgb: bool, classes: tuple[str, ...]) -> Listing:
    from eurosat.data.synthetic import synthetic_patch

    if set(classes) - set(CLASSES):
        raise DataSourceError(
            "the synthetic source generates EuroSAT's ten classes only: leave out --data.classes, "
            "or name only classes of EuroSAT"
        )
    labels = [number % len(classes) for number in range(count)]
    names = [f"{classes[label]}/synthetic_{i:06d}" for i, label in enumerate(labels)]

    def read(i: int) -> tuple[Patch, bytes | None]:
        pixels = synthetic_patch(classes[labels[i]], 0, i)
        return as_channels(Patch(pixels), names[i], rgb=rgb), None

    return Listing(names, labels, [None] * count, read)


def _image_files(
    files: Sequence[ImageFile],
    location: str,
    rgb: bool,
    classes: tuple[str, ...],
    band_order: tuple[str, ...] | None,
) -> Listing:
    """List image files in class folders."""
    loose = next((file for file in files if file.class_folder is None), None)
    if loose is not None:
        raise DataSourceError(
            f"{location} holds {loose.name} outside of any class folder: move the image into the "
            "folder of its class, or remove it"
        )
    folders = {str(file.class_folder) for file in files}
    if folders and not any(
        folder.lower() not in SPLIT_NAMES or canonical_class(folder, classes) for folder in folders
    ):
        raise DataSourceError(
            f"{location} holds {'/'.join(files[0].parts)}, whose folder names a split, not a "
            "class: put the images into folders of classes, and these folders into the folders "
            "train, val and test"
        )
    files = without_twins(files, location, rgb=rgb)
    labels = match_labels([str(file.class_folder) for file in files], classes, location)
    splits = [file.split for file in files]
    names = [file.name for file in files]
    if len(set(names)) < len(names):  # such as train/A/1.jpg and test/A/1.jpg
        names = [f"{file.class_folder}/{file.split}/{file.parts[-1]}" for file in files]
    reader = FileReader()

    def read(i: int) -> tuple[Patch, bytes | None]:
        data = reader(files[i])
        order = band_order_of(names[i], band_order)
        return decode(data, names[i], rgb=rgb, band_order=order, longitude=True), data

    return Listing(names, labels, splits, read)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
