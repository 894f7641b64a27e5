"""Sources of patches: the HF hub, a local archive or folder, and the synthetic generator.

Each source becomes a :class:`Listing`: names, labels, the source's own splits, and a function that
reads one patch. HF ``datasets`` finds and reads the files of every source but the synthetic one.
"""

import hashlib
import json
import os
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from eurosat.bands import BANDS, GEOTIFF_ORDER, resolve_channels, select_bands
from eurosat.data.published import HUB_FILES, HUB_REPOSITORY
from eurosat.errors import DataSourceError
from eurosat.labels import CLASSES, canonical_class
from eurosat.pixels import IMAGE_SUFFIXES, Patch, as_channels, decode

if TYPE_CHECKING:
    import datasets

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""This project's name of a split, by the lower-case name of a folder or hub split."""

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
) -> Source:
    """Find a data source.

    Args:
        source: ``"hub"``, a hub data set id ``"owner/name"``, ``"synthetic"``, or the path of a
            ``.zip`` archive or folder that holds one folder of images per class.
        rgb: Whether to read the 8-bit rendition rather than the thirteen bands.
        classes: Class names in label order.
        revision: Git revision of the hub data set; required for ``"owner/name"``.
        synthetic_images: Number of patches that ``"synthetic"`` generates.

    Returns:
        The source.

    Raises:
        DataSourceError: There is no such source, or the source needs a revision.
    """
    classes = tuple(classes)
    settings = {"rgb": rgb, "classes": classes}
    path = Path(source).expanduser()
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
            lambda: _image_files(url, rgb, classes, nullcontext),
        )
    if path.is_file() and path.suffix.lower() == ".zip":
        settings |= {"contents": _zip_contents(path)}
        location = path.resolve().as_posix()
    elif path.is_dir():
        settings |= {"contents": _folder_contents(path)}
        location = (path.resolve() / "**").as_posix()
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
            lambda: _hub_rows(source, revision, rgb, classes),
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
        lambda: _image_files(location, rgb, classes, tempfile.TemporaryDirectory),
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
    location: str,
    rgb: bool,
    classes: tuple[str, ...],
    cache: Callable[[], AbstractContextManager[str | None]],
) -> Listing:
    """List image files in class folders, in a folder or zip archive, local or on the hub."""
    import datasets

    with cache() as cache_folder:
        listed = _with_hint(
            lambda: datasets.load_dataset(
                "imagefolder",
                data_files={"files": location},
                split="files",
                drop_labels=True,
                drop_metadata=True,
                cache_dir=cache_folder,
            ),
            location,
        )
        listed = listed.cast_column("image", datasets.Image(decode=False))
        files = sorted(row["path"] for row in listed["image"])
    paths = [PurePosixPath(file.removeprefix("zip://").split("::")[0]).parts for file in files]
    names = ["/".join(path[-2:]) for path in paths]
    splits = [SPLIT_NAMES.get(path[-3].lower()) if len(path) > 2 else None for path in paths]
    labels = _labels([path[-2] if len(path) > 1 else "" for path in paths], classes, location)
    _check_unique(names, location)
    reader = _FileReader()

    def read(i: int) -> tuple[Patch, bytes | None]:
        data = reader(files[i])
        return decode(data, names[i], rgb=rgb, longitude=True), data

    return Listing(names, labels, splits, read)


def _hub_rows(source: str, revision: str, rgb: bool, classes: tuple[str, ...]) -> Listing:
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
    _check_unique(names, source)
    images = table.select_columns(["image"])
    arrays = images if encoded else images.with_format("numpy")

    def read(i: int) -> tuple[Patch, bytes | None]:
        image = arrays[i]["image"]
        if encoded:
            return decode(image["bytes"], names[i], rgb=rgb, longitude=True), image["bytes"]
        pixels = np.asarray(image)
        if pixels.shape[0] < pixels.shape[-1]:  # channels first
            pixels = np.moveaxis(pixels, 0, -1)
        return as_channels(Patch(_spectral_order(pixels)), names[i], rgb=rgb), None

    return Listing(names, indices, splits, read)


def _spectral_order(pixels: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Reorder bands from the order of the GeoTIFFs, which hub copies keep, to spectral order."""
    if pixels.shape[-1] != len(BANDS):
        return pixels
    return select_bands(pixels, BANDS, resolve_channels(GEOTIFF_ORDER))


def _with_hint(load: Callable[[], "datasets.Dataset"], location: str) -> "datasets.Dataset":
    """Call HF datasets, and turn every failure into one error with a hint."""
    try:
        return load()
    except Exception as error:
        remote = location.startswith("hf://") or not Path(location.removesuffix("/**")).exists()
        hint = (
            "check the network, or download EuroSAT_RGB.zip or EuroSAT_MS.zip from "
            "zenodo.org/records/7711810 and pass --data.source <path of the .zip>"
            if remote
            else "give .jpg, .png or .tif images in one folder per class"
        )
        raise DataSourceError(f"cannot read {location} ({_first_line(error)}): {hint}") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"


def _labels(found: Sequence[str], classes: tuple[str, ...], location: str) -> list[int]:
    indices: dict[str, int] = {}
    for name in set(found):
        match = canonical_class(name, classes)
        if match is None:
            raise DataSourceError(
                f"{location} has a class folder '{name}', which is not among the classes "
                f"{', '.join(classes)}: for your own classes pass --data.classes "
                f"'[{', '.join(sorted(set(found)))}]'"
            )
        indices[name] = classes.index(match)
    return [indices[name] for name in found]


def _check_unique(names: list[str], location: str) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise DataSourceError(f"{location} holds two files named {twice}: rename one of the files")


class _FileReader:
    """Reads files by path, or by ``zip://member::archive``, from many threads."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __call__(self, file: str) -> bytes:
        if not file.startswith("zip://"):
            return Path(file).read_bytes()
        member, archive = file.removeprefix("zip://").split("::")
        if not hasattr(self._local, "zip"):
            self._local.zip = zipfile.ZipFile(archive)
        try:
            data: bytes = self._local.zip.read(member)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataSourceError(
                f"{archive} is damaged at {member} ({error}): download it again"
            ) from error
        return data


def _zip_contents(path: Path) -> list[tuple[str, int, int]]:
    """Read name, size and CRC-32 of every member from the archive's directory."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted((item.filename, item.file_size, item.CRC) for item in archive.filelist)
    except zipfile.BadZipFile as error:
        raise DataSourceError(
            f"{path} is not a complete zip archive ({error}): download it again"
        ) from error


def _folder_contents(path: Path) -> list[tuple[str, int, int]]:
    """Find the relative path, size and modification time of every image."""
    return sorted(
        (os.path.relpath(entry.path, path), entry.stat().st_size, entry.stat().st_mtime_ns)
        for entry in _walk(path)
        if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES
    )


def _walk(path: Path | str) -> "Iterator[os.DirEntry[str]]":
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(entry.path)
            else:
                yield entry


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
