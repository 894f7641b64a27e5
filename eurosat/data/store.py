"""The store: a data set decoded once into memory-mapped arrays.

A store is a folder with ``images.npy`` (uint8 or uint16, shape (N, height, width, channels)),
``labels.npy`` (int64, shape (N,)), ``items.json`` (name, split and longitude of every patch) and
``store.json`` (the store's card). A store is written to a temporary folder beside its final path
under a lock, and the complete folder is renamed, so no process ever opens an incomplete store.
"""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from tqdm import tqdm

from eurosat.data.copies import find_copies
from eurosat.data.published import verify_published_files
from eurosat.data.sources import Source
from eurosat.errors import DataSourceError
from eurosat.folders import check_reachable
from eurosat.operating_system import available_cores
from eurosat.pixels import Patch

_FORMAT = 1
_ITEMS = ("names", "splits", "longitudes")  # lists in items.json with one entry for each patch
_LONGEST_NAME = 200  # bytes of a source's name in a folder's name, which file systems limit to 255


@dataclass(frozen=True)
class StoreCard:
    """The card of a store, as written to ``store.json``.

    Attributes:
        source: Short name of the source.
        source_fingerprint: Fingerprint of the source and the settings that read it.
        fingerprint: SHA-256 over pixels, labels and names; the same data have the same fingerprint
            whatever their source is.
        classes: Class names in label order.
        rgb: Whether patches are uint8 RGB rather than uint16 with thirteen bands.
        images: Number of patches.
        synthetic: Whether the patches are generated.
        verified: Whether the files are byte for byte the published 27,000 JPEGs; None where
            there is no published checksum to compare with.
        format: Version of the store's layout.
    """

    source: str
    source_fingerprint: str
    fingerprint: str
    classes: tuple[str, ...]
    rgb: bool
    images: int
    synthetic: bool
    verified: bool | None
    format: int = _FORMAT


class Store:
    """An opened store.

    Attributes:
        path: The folder.
        card: The store's card.
        images: Memory-mapped, uint8 or uint16, shape (N, height, width, channels).
        labels: int64, shape (N,).
        names: ``Class/file`` of every patch.
        source_splits: The source's own split of every patch, or None.
        longitudes: Degrees east of every patch, or None.
        copies: Name of the kept patch, by the name of each copy that was left out.
    """

    def __init__(self, path: Path) -> None:
        """Open the store in the folder ``path``.

        Raises:
            DataSourceError: The folder holds no store of this version.
        """
        self.path = path
        try:
            card = json.loads((path / "store.json").read_text("utf-8"))
            items = json.loads((path / "items.json").read_text("utf-8"))
            if card["format"] != _FORMAT:
                raise ValueError(f"its layout is {card['format']}, not {_FORMAT}")
            known = {field.name for field in fields(StoreCard)}
            content = {name: value for name, value in card.items() if name in known}
            self.card = StoreCard(**content | {"classes": tuple(card["classes"])})
            self.images: npt.NDArray[Any] = np.load(path / "images.npy", mmap_mode="r")
            self.labels: npt.NDArray[np.int64] = np.load(path / "labels.npy")
            if self.images.shape[1] != self.images.shape[2]:
                raise ValueError(f"its patches of shape {self.images.shape[1:]} are not square")
            self.names: list[str] = items["names"]
            self.source_splits: list[str | None] = items["splits"]
            self.longitudes: list[float | None] = items["longitudes"]
            self.copies: dict[str, str] = items.get("copies", {})
            counts = {len(self.images), len(self.labels), *(len(items[name]) for name in _ITEMS)}
            if len(counts) > 1:
                raise ValueError("its files hold different numbers of patches")
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataSourceError(
                f"the store {path} cannot be read ({error}): delete the folder and prepare the "
                "data again"
            ) from error

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.labels)

    def check_verified(self) -> None:
        """Refuse a store that was made from a changed copy of EuroSAT.

        Raises:
            DataSourceError: The source had EuroSAT's 27,000 file names and other contents.
        """
        if self.card.verified is False:
            raise _changed_copy(self.card.source)

    @staticmethod
    def is_store(path: Path) -> bool:
        """Whether the folder ``path`` holds a store."""
        return os.path.isfile(path / "store.json")  # false for a path that is too long


def store_folder(source: Source, root: Path, *, rgb: bool) -> Path:
    """Name the folder of a source's store in ``root``; every source has its own folder."""
    name = os.fsencode(source.name)[:_LONGEST_NAME].decode("utf-8", "ignore")
    return root / f"{name}-{'rgb' if rgb else 'ms'}-{source.fingerprint[:12]}"


def prepare(
    source: Source, path: Path, *, rgb: bool, classes: tuple[str, ...], verify: bool
) -> Store:
    """Open the store of a source; decode the source first if there is no store yet.

    Several processes can call the function at once: one process decodes, and the others wait.

    Args:
        source: The source.
        path: Folder of the store.
        rgb: Whether the store holds the 8-bit rendition.
        classes: Class names in label order.
        verify: Refuse a data set with EuroSAT's 27,000 RGB file names and other contents.

    Returns:
        The opened store.

    Raises:
        DataSourceError: The source is empty, unreadable, damaged or fails verification, or the
            folder holds other files.
    """
    if Store.is_store(path):
        return _open(path, source, verify=verify)
    check_reachable(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise DataSourceError(
            f"{path} exists and is not a store, so decoded data cannot be written to it: choose "
            "another folder"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not Store.is_store(path):
                _make(source, path, rgb=rgb, classes=classes, verify=verify)
    except OSError as error:
        raise DataSourceError(
            f"decoded data cannot be written to {path.parent} ({error.strerror}): change the "
            "rights of the folder or free space, or choose another folder with --data.root or "
            "eurosat prepare --output"
        ) from error
    return _open(path, source, verify=verify)


def _changed_copy(source: str) -> DataSourceError:
    return DataSourceError(
        f"{source} has EuroSAT's 27,000 file names but not the published contents: download the "
        "files again, or pass --data.verify false to accept the contents"
    )


def _open(path: Path, source: Source, *, verify: bool) -> Store:
    store = Store(path)
    if store.card.source_fingerprint != source.fingerprint:
        if store.card.source == source.name:
            reason = (
                f"{source.name} has changed, or other settings are given, since {path} was made"
            )
        else:
            reason = f"{path} holds other data ({store.card.source}) than {source.name}"
        raise DataSourceError(f"{reason}: delete the folder {path}, or choose another folder")
    if verify:
        store.check_verified()
    return store


def _make(source: Source, path: Path, *, rgb: bool, classes: tuple[str, ...], verify: bool) -> None:
    """Write the store to a temporary folder, and rename the folder."""
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*"):  # from a killed process
        shutil.rmtree(stale)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        _write(source, partial, rgb=rgb, classes=classes, verify=verify)
        partial.chmod(0o755)
        if path.is_dir():  # an empty folder of the user's
            path.rmdir()
        partial.rename(path)
    except BaseException:
        # Windows keeps a file that the error's traceback still holds open. The next call
        # deletes the folder.
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write(
    source: Source, path: Path, *, rgb: bool, classes: tuple[str, ...], verify: bool
) -> None:
    listing = source.list()
    count = len(listing.names)
    if count == 0:
        raise DataSourceError(
            f"{source.name} holds no images: give a source with one folder of images per class"
        )
    first = listing.read(0)[0].pixels
    height, width = first.shape[:2]
    if height != width:
        raise DataSourceError(
            f"{listing.names[0]} has {width}x{height} pixels, and patches must be square: crop or "
            "resize the images first"
        )
    images = _new_array(path / "images.npy", first.dtype, (count, *first.shape))
    longitudes: list[float | None] = [None] * count
    digests: list[str] = [""] * count
    contents: list[bytes] = [b""] * count

    def fill(i: int) -> None:
        patch, data = listing.read(i)
        _check_shape(patch, first.shape, listing.names[i])
        images[i] = patch.pixels
        longitudes[i] = patch.longitude
        contents[i] = hashlib.blake2b(patch.pixels.tobytes(), digest_size=16).digest()
        digests[i] = hashlib.sha256(data).hexdigest() if data is not None else ""

    # Decoders release the interpreter lock, so threads decode in parallel without copying patches.
    with ThreadPoolExecutor(max_workers=available_cores()) as threads:
        done: Iterable[None] = threads.map(fill, range(count))
        try:
            for _ in tqdm(done, total=count, desc=f"Decoding {source.name}", unit="patch"):
                pass
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise

    verified = verify_published_files(listing.names, digests) if rgb else None
    if verified is False and verify:
        raise _changed_copy(source.name)
    copies = find_copies(listing, contents, source.name)
    kept = [i for i in range(count) if i not in copies]
    if len(kept) < count:
        images = _keep(images, kept, path / "images.npy")
    names = [listing.names[i] for i in kept]
    labels = np.asarray(listing.labels, dtype=np.int64)[kept]
    images.flush()
    np.save(path / "labels.npy", labels)
    items = {
        "names": names,
        "splits": [listing.splits[i] for i in kept],
        "longitudes": [longitudes[i] for i in kept],
        "copies": {listing.names[i]: listing.names[other] for i, other in copies.items()},
    }
    (path / "items.json").write_text(json.dumps(items), "utf-8", newline="\n")
    card = StoreCard(
        source=source.name,
        source_fingerprint=source.fingerprint,
        fingerprint=_fingerprint(images, labels, names),
        classes=classes,
        rgb=rgb,
        images=len(kept),
        synthetic=source.synthetic,
        verified=verified,
    )
    (path / "store.json").write_text(
        json.dumps(asdict(card), indent=2) + "\n", "utf-8", newline="\n"
    )


def _new_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Create the file of an array and map it.

    Raises:
        OSError: The disk is full. Without the reservation of the space, the system would end the
            process at the first write that finds the disk full (SIGBUS).
    """
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _keep(images: np.memmap[Any, Any], kept: Sequence[int], path: Path) -> np.memmap[Any, Any]:
    """Write some of the patches of the file ``path`` in place of all its patches."""
    fewer = path.with_suffix(".kept.npy")
    copy = _new_array(fewer, images.dtype, (len(kept), *images.shape[1:]))
    for position, i in enumerate(kept):
        copy[position] = images[i]
    copy.flush()
    fewer.replace(path)
    return copy


def _check_shape(patch: Patch, expected: tuple[int, ...], name: str) -> None:
    if patch.pixels.shape != expected:
        raise DataSourceError(
            f"{name} has {patch.pixels.shape[1]}x{patch.pixels.shape[0]} pixels, and the first "
            f"image has {expected[1]}x{expected[0]}: crop or resize all images to one size"
        )


def _fingerprint(images: npt.NDArray[Any], labels: npt.NDArray[np.int64], names: list[str]) -> str:
    digest = hashlib.sha256(json.dumps([names, labels.tolist(), images.shape[1:]]).encode())
    for start in range(0, len(images), 1024):
        digest.update(np.ascontiguousarray(images[start : start + 1024]).data)
    return digest.hexdigest()
