"""Data of the Hugging Face hub: the published archives of EuroSAT, and data sets of rows."""

import logging
import tempfile
from collections import Counter
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from eurosat.bands import BANDS, resolve_channels, select_bands
from eurosat.data.files import SPLIT_NAMES
from eurosat.data.listing import Listing, band_order_of, match_labels
from eurosat.data.published import HUB_FILES, HUB_REPOSITORY
from eurosat.downloads import cached_files, downloading, first_line, refuse_damaged
from eurosat.errors import DataSourceError
from eurosat.image_checks import BandOrder, UnsuitableImageError, published_order
from eurosat.pixels import Patch, as_channels, decode

if TYPE_CHECKING:
    import datasets

_log = logging.getLogger(__name__)


def download_archive(revision: str, *, rgb: bool) -> Path:
    """Download a published archive of EuroSAT, or find it among the earlier downloads.

    Args:
        revision: Commit of the repository.
        rgb: Whether to download the JPEGs rather than the GeoTIFFs.

    Returns:
        Path of the archive.

    Raises:
        DataSourceError: The archive cannot be downloaded, or it is damaged.
    """
    from huggingface_hub import hf_hub_download

    archive = HUB_FILES[rgb]
    with downloading(
        f"{archive.file} of {HUB_REPOSITORY}",
        DataSourceError,
        f"download {'EuroSAT_RGB.zip' if rgb else 'EuroSAT_MS.zip'} from "
        "zenodo.org/records/7711810 and pass --data.source <path of the .zip>",
    ):
        path = Path(
            hf_hub_download(HUB_REPOSITORY, archive.file, repo_type="dataset", revision=revision)
        )
        refuse_damaged([path], archive.sha256 if revision == archive.revision else None)
    return path


def list_rows(
    source: str,
    revision: str,
    rgb: bool,
    classes: tuple[str, ...],
    band_order: tuple[str, ...] | None,
) -> Listing:
    """List a hub data set, each row of which holds an image, encoded or as an array.

    Args:
        source: ``"owner/name"`` of the data set.
        revision: Commit of the data set.
        rgb: Whether the 8-bit rendition is read rather than the thirteen bands.
        classes: Class names in label order.
        band_order: Order of the bands of files and arrays that do not name their bands.

    Raises:
        DataSourceError: The data set cannot be downloaded, or has no images with known labels.
    """
    import datasets
    import fsspec

    try:
        loaded, folder = _load(source, revision)
    except DataSourceError:
        raise
    except datasets.exceptions.DatasetNotFoundError as error:  # hides the hub's answer
        raise DataSourceError(
            f"the data set {source} cannot be downloaded ({first_line(error)}): correct the name "
            "or the commit, or ask for access on the page of the data set and set HF_TOKEN to a "
            "token that can read the data set"
        ) from error
    except Exception as error:  # HF datasets raises errors of many types.
        raise DataSourceError(
            f"{source} cannot be read ({first_line(error.__cause__ or error)}): choose a data set "
            "of images with labels, or another commit"
        ) from error
    table = datasets.concatenate_datasets(list(loaded.values()))
    if missing := [name for name in ("image", "label") if name not in table.column_names]:
        cause = f"has the columns {', '.join(table.column_names)} and lacks"
        if "image" in missing and "file_name" in table.column_names:
            cause = "has names of images (the column file_name), not the images: it lacks"
        raise DataSourceError(
            f"{source} {cause} {' and '.join(missing)}: choose a data set that has the columns "
            "image and label"
        )
    encoded = isinstance(table.features["image"], datasets.Image)
    if isinstance(table.features["image"], datasets.Value):
        raise DataSourceError(
            f"the column 'image' of {source} holds values of the type "
            f"{table.features['image'].dtype}, not images: choose a data set of images"
        )
    splits = [SPLIT_NAMES.get(split.lower()) for split, rows in loaded.items() for _ in rows]
    whole = _complete_rows(table, source)
    if len(whole) < len(table):
        table = table.select(whole).flatten_indices()  # table.data ignores indices
        splits = [splits[i] for i in whole]
    labels, label_names = table["label"], getattr(table.features["label"], "names", None)
    found = [label_names[label] if label_names else str(label) for label in labels]
    indices = match_labels(found, classes, source)
    table = table.cast_column("image", datasets.Image(decode=False)) if encoded else table
    names = _names(table, [classes[index] for index in indices], source, encoded=encoded)
    images = table.select_columns(["image"])
    arrays = images if encoded else images.with_format("numpy")
    dtype = getattr(table.features["image"], "dtype", None)

    # The arrays are mapped from files in the folder, which lasts as long as its object.
    def read(i: int, _folder: object = folder) -> tuple[Patch, bytes | None]:
        image = arrays[i]["image"]
        order = band_order_of(names[i], band_order)
        if encoded:
            data = image["bytes"]
            if data is None:  # a file of the repository, perhaps in an archive
                with fsspec.open(image["path"], "rb") as file:
                    data = file.read()
            return decode(data, names[i], rgb=rgb, band_order=order, longitude=True), data
        pixels = np.asarray(image, dtype)  # datasets gives integers of every type as int64
        if pixels.ndim != 3 or pixels.dtype.kind not in "iuf":
            raise DataSourceError(
                f"{names[i]} of {source} is an array of the shape {pixels.shape} and the type "
                f"{pixels.dtype}, not an image (height, width, channels): choose a data set of "
                "images"
            )
        if pixels.shape[-1] not in (3, len(BANDS)):  # channels first
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.shape[-1] == len(BANDS):
            pixels = _spectral_order(pixels, names[i], order)
        return as_channels(Patch(pixels), names[i], rgb=rgb), None

    return Listing(names, indices, splits, read)


def _complete_rows(table: "datasets.Dataset", source: str) -> list[int]:
    """Positions of the rows that have an image and a label; -1 stands for a missing label.

    Raises:
        DataSourceError: No row has both.
    """
    from datasets import ClassLabel

    images = table.data.column("image").is_null().to_pylist()
    named = isinstance(table.features["label"], ClassLabel)
    complete = [
        i
        for i, (without, label) in enumerate(zip(images, table["label"], strict=True))
        if not (without or label is None or (named and label < 0))
    ]
    if not complete:
        raise DataSourceError(
            f"no row of {source} has both an image and a label: choose a data set with labels"
        )
    if len(complete) < len(images):
        _log.warning(
            "%d of %d rows of %s have no label or no image and are left out",
            *(len(images) - len(complete), len(images), source),
        )
    return complete


def _load(
    source: str, revision: str
) -> "tuple[datasets.DatasetDict, tempfile.TemporaryDirectory[str]]":
    """Download a data set, and give it with the folder of its rows.

    Without an answer of the hub, HF datasets would take the rows of any other commit that it finds
    in its cache. A new folder as its cache rules that out. The downloads stay in the hub's cache.
    """
    import datasets

    caches = Path(datasets.config.HF_DATASETS_CACHE)
    with downloading(f"the data set {source}", DataSourceError, "pass another --data.source"):
        caches.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(
            prefix="eurosat-", dir=caches, ignore_cleanup_errors=True
        )
        try:
            loaded = datasets.load_dataset(source, revision=revision, cache_dir=folder.name)
            refuse_damaged(cached_files("datasets", source, revision))
        except BaseException:
            folder.cleanup()
            refuse_damaged(cached_files("datasets", source, revision))  # makes the reader fail
            raise
    return loaded, folder


def _names(
    table: "datasets.Dataset", classes: list[str], source: str, *, encoded: bool
) -> list[str]:
    """Name the rows ``Class/file``; a number takes the place of a file name that is not there."""
    import pyarrow.compute

    if "filename" in table.column_names and all(table["filename"]):
        names = _joined(classes, table["filename"])
        if len(set(names)) < len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise DataSourceError(
                f"{source} holds two rows with the file name {twice}: choose a data set whose file "
                "names are unique"
            )
        return names
    paths: list[Any] = []
    if encoded:
        paths = pyarrow.compute.struct_field(table.data.column("image"), "path").to_pylist()
    if paths and all(paths):
        names = _joined(classes, [path.partition("::")[0] for path in paths])
        if len(set(names)) == len(names):
            return names
    return _joined(classes, [f"{i:06d}" for i in range(len(classes))])


def _joined(classes: list[str], paths: list[str]) -> list[str]:
    return [f"{label}/{PurePath(path).name}" for label, path in zip(classes, paths, strict=True)]


def _spectral_order(
    pixels: "np.ndarray[Any, Any]", name: str, order: BandOrder
) -> "np.ndarray[Any, Any]":
    """Reorder the bands of an array, which has no names of bands, to spectral order."""
    if not order:
        raise DataSourceError(
            f"the order of the 13 bands of {name} is unknown, because arrays have no names of "
            "bands: pass --data.band_order (eurosat, spectral or 13 names)"
        )
    if order == "published":
        try:
            order = published_order(pixels)
        except UnsuitableImageError as error:
            raise DataSourceError(f"{name} cannot be read: {error}") from error
    return select_bands(pixels, BANDS, resolve_channels(order))
