"""The image files of a folder or zip archive, as people have them: found, checked, and read."""

import logging
import os
import threading
import unicodedata
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from stat import S_ISLNK

from eurosat.errors import DataSourceError
from eurosat.folders import is_hidden, walk
from eurosat.pixels import IMAGE_SUFFIXES, UNREAD_SUFFIXES

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

_log = logging.getLogger(__name__)
_ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"})
_TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
_UTF8_FLAG = 0x800  # of a zip member, whose name is UTF-8: APPNOTE.TXT, 4.4.4


@dataclass(frozen=True)
class ImageFile:
    """An image file that has been found but not read.

    Attributes:
        parts: The components of the file's path in the source, with Unicode in composed form
            (NFC), which macOS decomposes.
        member: Path of the file, or name of the archive's member.
        archive: Path of the archive; None for a file in a folder.
    """

    parts: tuple[str, ...]
    member: str
    archive: str | None = None

    @classmethod
    def at(cls, path: str, member: str, archive: str | None = None) -> "ImageFile":
        """Make an image file from its path in the source."""
        return cls(tuple(unicodedata.normalize("NFC", path).split("/")), member, archive)

    @property
    def class_folder(self) -> str | None:
        """Name of the folder that holds the file; None for a file that no folder holds."""
        return self.parts[-2] if len(self.parts) > 1 else None

    @property
    def split(self) -> str | None:
        """The split whose folder holds the class folder (train, val, test), or None."""
        return SPLIT_NAMES.get(self.parts[-3].lower()) if len(self.parts) > 2 else None

    @property
    def name(self) -> str:
        """Name ``Class/file``."""
        return "/".join(self.parts[-2:])

    @property
    def suffix(self) -> str:
        """Ending of the file's name in lower case."""
        return PurePosixPath(self.parts[-1]).suffix.lower()


def images_in_folder(folder: Path) -> list[ImageFile]:
    """Find the images in a folder.

    Raises:
        DataSourceError: The folder cannot be read, has a link that leads nowhere or in a circle, or
            has images that are not read.
    """
    folder = folder.resolve()
    # The folder's own name can be the class or the split.
    files = [
        ImageFile.at(f"{folder.name}/{path.relative_to(folder).as_posix()}", str(path))
        for path in walk(folder)
    ]
    return _only_images(files, folder)


def images_in_archive(path: Path) -> list[ImageFile]:
    """Find the images in a zip archive.

    Raises:
        DataSourceError: The archive is damaged, or has links or images that are not read.
    """
    files = []
    for item in _members(path):
        file = ImageFile.at(_path_of(item), item.filename, str(path))
        if item.is_dir() or is_hidden(file.parts):
            continue
        if S_ISLNK(item.external_attr >> 16):  # to an image or to the folder of a class
            raise DataSourceError(
                f"{path} holds {'/'.join(file.parts)} as a link, and links in an archive are not "
                "followed: unpack the archive and give the folder, or pack the files without links"
            )
        files.append(file)
    return _only_images(files, path)


def without_twins(files: Sequence[ImageFile], location: str, *, rgb: bool) -> list[ImageFile]:
    """Keep one file of each image that a source holds as GeoTIFF and as JPEG or PNG.

    Files are of one image if their names differ in the suffix only. The GeoTIFF is kept for the
    bands, and the other file for the 8-bit rendition.

    Args:
        files: The files of the source.
        location: The source, for messages.
        rgb: Whether the 8-bit rendition is read.

    Returns:
        The kept files in the same order.

    Raises:
        DataSourceError: Several files of one image suit equally.
    """
    images: dict[tuple[str | None, str], list[ImageFile]] = defaultdict(list)
    for file in files:
        images[file.split, str(PurePosixPath(file.name).with_suffix(""))].append(file)
    kept = set()
    for (_, name), image in images.items():
        suitable = [file for file in image if (file.suffix in _TIFF_SUFFIXES) != rgb]
        if len(image) > 1 and len(suitable) != 1:
            one, two = image[:2]
            raise DataSourceError(
                f"{location} holds two files named {one.name if one.name == two.name else name} "
                f"({'/'.join(one.parts)} and {'/'.join(two.parts)}): delete or rename one of the "
                "files"
            )
        kept.add((suitable if len(image) > 1 else image)[0])
    if len(kept) < len(files):
        _log.warning(
            "%s holds %d images both as GeoTIFF and as JPEG or PNG, and one file of each image is "
            "read, such as %s",
            *(location, len(files) - len(kept), next(f.name for f in files if f in kept)),
        )
    return [file for file in files if file in kept]


class FileReader:
    """Reads the bytes of image files, from many threads."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._local = threading.local()  # A ZipFile serves one thread.

    def __call__(self, file: ImageFile) -> bytes:
        """Read one file.

        Raises:
            DataSourceError: The file or its archive cannot be read, is damaged or is encrypted.
        """
        if file.archive is None:
            try:
                return Path(file.member).read_bytes()
            except OSError as error:
                raise DataSourceError(
                    f"{file.member} cannot be read ({error.strerror}): restore the file, or change "
                    "its rights"
                ) from error
        if not hasattr(self._local, "zip"):
            self._local.zip = zipfile.ZipFile(file.archive)
        try:
            data: bytes = self._local.zip.read(file.member)
        except NotImplementedError as error:  # such as deflate64 of Windows
            raise DataSourceError(
                f"{file.archive} cannot be read at {file.member} ({error}): unpack the archive "
                "with the program that made it, and give the folder"
            ) from error
        except RuntimeError as error:
            raise DataSourceError(
                f"{file.archive} is encrypted ({error}): unpack the archive with its password, and "
                "give the folder"
            ) from error
        except (zipfile.BadZipFile, OSError, EOFError, zlib.error, LZMAError) as error:
            raise DataSourceError(
                f"{file.archive} is damaged at {file.member} ({error}): download it again"
            ) from error
        return data


def archive_contents(path: Path) -> list[tuple[str, int, int]]:
    """Read name, size and CRC-32 of every member from the archive's directory.

    Raises:
        DataSourceError: The archive is incomplete or cannot be read.
    """
    return sorted((item.filename, item.file_size, item.CRC) for item in _members(path))


def folder_contents(path: Path) -> list[tuple[str, int, int]]:
    """Find the relative path, size and modification time of every image.

    Raises:
        DataSourceError: The folder cannot be read, or has a link that leads nowhere or in a circle.
    """
    images = [file for file in walk(path) if file.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(
        (os.path.relpath(file, path), (stat := file.stat()).st_size, stat.st_mtime_ns)
        for file in images
    )


def _members(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except OSError as error:
        raise DataSourceError(
            f"{path} cannot be read ({error.strerror}): change its rights, or copy the archive to "
            "a disk of this machine"
        ) from error
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DataSourceError(
            f"{path} is not a complete zip archive ({error}): download it again"
        ) from error


def _path_of(item: zipfile.ZipInfo) -> str:
    """The path of a member in its source.

    Some programs write backslashes, or components such as ``.`` and ``..``, which lead nowhere
    because nothing is unpacked.
    """
    components = _member_name(item).replace("\\", "/").split("/")
    return "/".join(part for part in components if part not in ("", ".", ".."))


def _member_name(item: zipfile.ZipInfo) -> str:
    """Decode the name of a member.

    macOS writes names in UTF-8 and does not set the flag that says so; zipfile then decodes the
    names as code page 437.
    """
    if not item.flag_bits & _UTF8_FLAG:
        with suppress(UnicodeError):
            return item.filename.encode("cp437").decode("utf-8")
    return item.filename


def _only_images(files: Sequence[ImageFile], location: Path) -> list[ImageFile]:
    """Leave out the files that are no images, and sort the others by their paths.

    Raises:
        DataSourceError: There are images of a format that is not read, or only archives.
    """
    unread = next((file for file in files if file.suffix in UNREAD_SUFFIXES), None)
    if unread is not None:
        raise DataSourceError(
            f"{location} holds {'/'.join(unread.parts)}, and {unread.suffix} images are not read: "
            "convert the images to .png or .tif, or remove them"
        )
    images = [file for file in files if file.suffix in IMAGE_SUFFIXES]
    packed = next((file for file in files if file.suffix in _ARCHIVE_SUFFIXES), None)
    if packed is not None and not images:
        raise DataSourceError(
            f"{location} holds the archive {'/'.join(packed.parts)} and no images: give a .zip "
            "archive itself as the source, or unpack the archive"
        )
    return sorted(images, key=lambda file: "/".join(file.parts))
