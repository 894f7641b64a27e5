"""Sources of patches: the HF hub, a local archive or folder, and the synthetic generator.

Each source becomes a :class:`Listing`: names, labels, the source's own splits, and a function that
reads one patch. HF ``datasets`` downloads from the hub and reads the hub's rows;
:mod:`eurosat.data.files` finds and reads the files of archives and folders.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from eurosat.bands import BANDS, GEOTIFF_ORDER, resolve_channels, select_bands
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
from eurosat.data.published import HUB_FILES, HUB_REPOSITORY, is_published_name
from eurosat.errors import DataSourceError
from eurosat.labels import CLASSES, canonical_class, check_classes
from eurosat.pixels import Patch, as_channels, decode

if TYPE_CHECKING:
    import datasets

_SYNTHETIC_VERSION = 1  # raise it when the generator's patches change


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
        revision: Git revision of the hub data set; required for ``"owner/name"``.
        synthetic_images: Number of patches that ``"synthetic"`` generates.
        band_order: Names of the thirteen bands of files and arrays that do not name their bands. If
            not given, only files with the names of EuroSAT's files may leave their bands unnamed.

    Returns:
        The source.

    Raises:
        DataSourceError: There is no such source, it cannot be read, or it needs a revision.
        SettingsError: A class is named twice.
    """
    classes = tuple(classes)
    check_classes(classes)
    settings: dict[str, Any] = {"rgb": rgb, "classes": classes}
    if band_order is not None:
        settings |= {"band_order": band_order}
    path = Path(source).expanduser()
    find: Callable[[Path], list[ImageFile]]
    if source == "synthetic":
        settings |= {"images": synthetic_images, "version": _SYNTHETIC_VERSION}
        return Source(
            "synthetic",
            _digest("synthetic", settings),
            True,
            lambda: _synthetic(synthetic_images, rgb, classes),
        )
    if source == "hub":
        pinned, file = HUB_FILES[rgb]
        url = f"hf://datasets/{HUB_REPOSITORY}@{revision or pinned}/{file}"
        return Source(
            Path(file).stem,
            _digest(url, settings),
            False,
            lambda: _image_files(_hub_files(url), url, rgb, classes, band_order),
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
        return Source(
            source.replace("/", "_"),
            _digest(source, settings | {"revision": revision}),
            False,
            lambda: _hub_rows(source, revision, rgb, classes, band_order),
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
    files = without_twins(files, location, rgb=rgb)
    labels = _labels([str(file.class_folder) for file in files], classes, location)
    splits = [file.split for file in files]
    names = [file.name for file in files]
    if len(set(names)) < len(names):  # such as train/A/1.jpg and test/A/1.jpg
        names = [f"{file.class_folder}/{file.split}/{file.parts[-1]}" for file in files]
    reader = FileReader()

    def read(i: int) -> tuple[Patch, bytes | None]:
        data = reader(files[i])
        order = _order(names[i], band_order)
        return decode(data, names[i], rgb=rgb, band_order=order, longitude=True), data

    return Listing(names, labels, splits, read)


def _order(name: str, band_order: tuple[str, ...] | None) -> tuple[str, ...]:
    """The order of a file's bands if the file does not name its bands; empty if unknown."""
    return band_order or (GEOTIFF_ORDER if is_published_name(name) else ())


def _hub_files(url: str) -> list[ImageFile]:
    """Download an archive of the hub, and find its images."""
    import datasets

    listed = _with_hint(
        lambda: datasets.load_dataset(
            "imagefolder",
            data_files={"files": url},
            split="files",
            drop_labels=True,
            drop_metadata=True,
        ),
        url,
    )
    first = listed.cast_column("image", datasets.Image(decode=False))[0]["image"]["path"]
    return images_in_archive(Path(first.split("::")[1]))  # zip://<member>::<archive>


def _hub_rows(
    source: str,
    revision: str,
    rgb: bool,
    classes: tuple[str, ...],
    band_order: tuple[str, ...] | None,
) -> Listing:
    """List a hub data set, each row of which holds an image, encoded or as an array."""
    import datasets

    loaded = _with_hint(lambda: datasets.load_dataset(source, revision=revision), source)
    table = datasets.concatenate_datasets(list(loaded.values()))
    splits = [SPLIT_NAMES.get(split.lower()) for split, rows in loaded.items() for _ in rows]
    if not {"image", "label"} <= set(table.column_names):
        raise DataSourceError(
            f"{source} has the columns {', '.join(table.column_names)} and lacks 'image' or "
            "'label': choose a data set that has both columns"
        )
    labels, label_names = table["label"], getattr(table.features["label"], "names", None)
    found = [label_names[label] if label_names else str(label) for label in labels]
    indices = _labels(found, classes, source)
    encoded = isinstance(table.features["image"], datasets.Image)
    table = table.cast_column("image", datasets.Image(decode=False)) if encoded else table
    if "filename" in table.column_names:
        files = [PurePosixPath(name).name for name in table["filename"]]
    else:
        files = [f"{i:06d}" for i in range(len(indices))]
    names = [f"{classes[index]}/{file}" for index, file in zip(indices, files, strict=True)]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataSourceError(
            f"{source} holds two rows with the file name {twice}: choose a data set whose file "
            "names are unique"
        )
    images = table.select_columns(["image"])
    arrays = images if encoded else images.with_format("numpy")
    dtype = getattr(table.features["image"], "dtype", None)

    def read(i: int) -> tuple[Patch, bytes | None]:
        image = arrays[i]["image"]
        order = _order(names[i], band_order)
        if encoded:
            data = image["bytes"]
            return decode(data, names[i], rgb=rgb, band_order=order, longitude=True), data
        pixels = np.asarray(image, dtype)  # datasets gives integers of every type as int64
        if pixels.shape[-1] not in (3, len(BANDS)):  # channels first
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.shape[-1] == len(BANDS):
            pixels = _spectral_order(pixels, names[i], order)
        return as_channels(Patch(pixels), names[i], rgb=rgb), None

    return Listing(names, indices, splits, read)


def _spectral_order(
    pixels: "np.ndarray[Any, Any]", name: str, order: tuple[str, ...]
) -> "np.ndarray[Any, Any]":
    """Reorder the bands of an array, which has no names of bands, to spectral order."""
    if not order:
        raise DataSourceError(
            f"the order of the 13 bands of {name} is unknown, because arrays have no names of "
            "bands: pass --data.band_order (eurosat, spectral or 13 names)"
        )
    return select_bands(pixels, BANDS, resolve_channels(order))


def _with_hint(load: Callable[[], "datasets.Dataset"], location: str) -> "datasets.Dataset":
    """Call HF datasets, and turn every failure into one error with a hint."""
    try:
        return load()
    except Exception as error:
        raise DataSourceError(
            f"cannot read {location} ({_first_line(error)}): check the network, or download "
            "EuroSAT_RGB.zip or EuroSAT_MS.zip from zenodo.org/records/7711810 and pass "
            "--data.source <path of the .zip>"
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"


def _labels(found: Sequence[str], classes: tuple[str, ...], location: str) -> list[int]:
    """Match the names of class folders, or of hub labels, to the classes."""
    indices: dict[str, int] = {}
    for name in sorted(set(found)):
        match = canonical_class(name, classes)
        if match is None:
            raise DataSourceError(
                f"{location} has a class folder '{name}', which is not among the classes "
                f"{', '.join(classes)}: for your own classes pass --data.classes "
                f"'[{', '.join(sorted(set(found)))}]'"
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


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
