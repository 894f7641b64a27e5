"""The store of uploaded segments: a local folder, or a folder in a bucket.

An object's name is ``DAY/TIME-ID-HASH.jsonl.gz``; HASH is the SHA-256 of the object's content. An
object never changes: another content has another name.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from eurosat.errors import PredictionLogError
from eurosat.files import atomic_write
from eurosat.monitoring.log.spool import began_at

_OBJECT = re.compile(
    r"\d{4}-\d{2}-\d{2}/(?P<stem>\d{8}T\d{6}-[0-9a-f]{16})-(?P<hash>[0-9a-f]{32})\.jsonl\.gz"
)

_AT_ONCE = 64
"""Objects that are fetched at the same time; each has at most 4 MiB."""


class Store(Protocol):
    """A folder of immutable objects. The methods raise whatever errors the folder's system has."""

    url: str

    def put(self, name: str, content: bytes) -> None:
        """Write an object, unless an object of this name exists."""

    def folders(self) -> list[str]:
        """List the names of the folders in the folder, sorted; empty without the folder."""

    def names(self, folder: str = "") -> list[str]:
        """List the names of all files under the folder, or under a folder in it, sorted."""

    def read(self, names: Sequence[str]) -> list[bytes]:
        """Read objects."""

    def delete(self, name: str) -> None:
        """Delete an object."""


class _LocalStore:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.url = str(folder)
        self._folder = folder

    def put(self, name: str, content: bytes) -> None:
        path = self._folder / name
        if not path.exists():
            with atomic_write(path) as partial:  # the name has the content's hash
                partial.write_bytes(content)

    def folders(self) -> list[str]:
        return sorted(path.name for path in self._folder.glob("*") if path.is_dir())

    def names(self, folder: str = "") -> list[str]:
        return sorted(
            path.relative_to(self._folder).as_posix()
            for path in (self._folder / folder).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )

    def read(self, names: Sequence[str]) -> list[bytes]:
        return [(self._folder / name).read_bytes() for name in names]

    def delete(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


class _RemoteStore:
    """A folder that fsspec reaches."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self.url = url
        self._system, root = url_to_fs(url, use_listings_cache=False)
        self._root = root.rstrip("/")

    def put(self, name: str, content: bytes) -> None:
        try:
            # Google Cloud Storage then gets if-generation-match: 0, and S3 If-None-Match: *.
            self._system.pipe_file(f"{self._root}/{name}", content, mode="create")
        except FileExistsError:
            pass  # the service was killed before it deleted the segment
        except OSError as error:
            # To an account that may only create objects, Google Cloud Storage may say that the
            # right to delete is missing: it is needed only if the object exists.
            if "storage.objects.delete" not in str(error):
                raise

    def folders(self) -> list[str]:
        self._system.invalidate_cache()
        try:
            entries = self._system.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        paths = [entry["name"].rstrip("/") for entry in entries if entry["type"] == "directory"]
        return sorted(path.rpartition("/")[2] for path in paths)

    def names(self, folder: str = "") -> list[str]:
        self._system.invalidate_cache()
        prefix = f"{self._root}/"
        found = self._system.find(f"{prefix}{folder}".rstrip("/"))
        return sorted(path.removeprefix(prefix) for path in found)

    def read(self, names: Sequence[str]) -> list[bytes]:
        paths = [f"{self._root}/{name}" for name in names]
        found: Any = self._system.cat(paths, on_error="raise")
        return [found[path] for path in paths]

    def delete(self, name: str) -> None:
        self._system.rm_file(f"{self._root}/{name}")


def open_store(url: str) -> Store:
    """Open a store; nothing is read or written yet.

    Args:
        url: A folder, or a URL that fsspec knows, such as ``gs://bucket/log``.

    Raises:
        PredictionLogError: fsspec does not know the URL, lacks a package for it, or has no
            credentials.
    """
    if "://" not in url or url.startswith("file://"):
        return _LocalStore(Path(url.removeprefix("file://")).expanduser().absolute())
    try:
        from fsspec import get_filesystem_class

        get_filesystem_class(url.partition("://")[0])
    except ImportError as error:
        raise PredictionLogError(
            f"{url} needs a package that is not installed ({error}): pip install 'eurosat[monitor]'"
            " for gs://, or fsspec's package for another kind of bucket"
        ) from error
    except ValueError as error:
        raise PredictionLogError(
            f"{url} has an unknown protocol: name a folder, or a URL such as gs://bucket/log"
        ) from error
    try:
        return _RemoteStore(url)
    except Exception as error:  # each kind of bucket raises its own errors
        raise PredictionLogError(
            f"{url} cannot be opened ({describe(error)}): check the address and the credentials of "
            "this machine's account"
        ) from error


def pack(stem: str, lines: bytes) -> tuple[str, bytes]:
    """Compress a segment, and name its object.

    Args:
        stem: The segment's time and id, ``TIME-ID``.
        lines: The segment's lines.

    Returns:
        The object's name and content; the same lines give the same name and content.
    """
    content = gzip.compress(lines, compresslevel=1, mtime=0)
    digest = hashlib.sha256(content).hexdigest()[:32]
    day = f"{stem[:4]}-{stem[4:6]}-{stem[6:8]}"
    return f"{day}/{stem}-{digest}.jsonl.gz", content


def unpack(name: str, content: bytes) -> tuple[bytes, bool]:
    """Decompress an object, as far as it can be read.

    Returns:
        The lines, and whether the object is whole.
    """
    found = _OBJECT.fullmatch(name)
    whole = found is not None and hashlib.sha256(content).hexdigest().startswith(found["hash"])
    lines, ended = _decompress(content, len(content))
    if not ended:  # byte by byte, so that everything before a damaged byte is kept
        lines, ended = _decompress(content, 1)
    return lines, whole and ended


def _decompress(content: bytes, step: int) -> tuple[bytes, bool]:
    """Decompress so many bytes at a time; return the lines, and whether their end was reached."""
    decompressor = zlib.decompressobj(wbits=31)
    lines = bytearray()
    with suppress(zlib.error):
        for start in range(0, len(content), max(step, 1)):
            lines += decompressor.decompress(content[start : start + step])
    return bytes(lines), decompressor.eof


def stem_of(name: str) -> str | None:
    """Return ``TIME-ID`` of an object of a log; None if the name is another file's."""
    if not (found := _OBJECT.fullmatch(name)):
        return None
    try:
        began_at(found["stem"])
    except ValueError:
        return None  # a time such as 25:61:99
    return found["stem"]


def day_of(folder: str) -> float | None:
    """Seconds since 1970 when the day of a log's folder began; None for another folder."""
    try:
        return datetime.strptime(folder, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def began(name: str) -> float:
    """Seconds since 1970 when an object's segment began, from its name."""
    return began_at(name.partition("/")[2])


def read_all(store: Store, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Read objects in groups, so that the memory holds one group at a time."""
    for start in range(0, len(names), _AT_ONCE):
        group = names[start : start + _AT_ONCE]
        yield from zip(group, store.read(group), strict=True)


def describe(error: Exception) -> str:
    """Write an error of a folder's system in one line, with its kind."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
