"""Decoding of uploaded images, where a hostile file can neither freeze nor exhaust the service.

Small JPEG and PNG files are decoded in the API process, because their decoding takes about as long
as handing them over. All other files are decoded in decoder processes, which have limits of memory
and processor time, and which a request ends when its time limit is over. A file that ends its
decoder costs its own image only.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_process

from eurosat.errors import DataSourceError
from eurosat.image_header import check_scans, read_header
from eurosat.inference.backend import Patches
from eurosat.inference.card import ModelCard
from eurosat.inference.pictures import Picture, read_picture
from eurosat.operating_system import available_cores
from eurosat.pixels import decode, resize

_log = logging.getLogger(__name__)

_INLINE_BYTES = 64 * 1024
"""Size of the largest file that an API process decodes; the JPEG of a patch has 2 to 6 KB."""

_INLINE_DECODED_BYTES = 256 * 256 * 3
"""Bytes of the pixels of the largest image that an API process decodes, within 2 ms."""

_INLINE_SCANS = 12
"""Scans of such an image; programs that write progressive JPEGs write about 10."""

_COMPRESSED_TEXT = (b"zTXt", b"iTXt", b"iCCP")
"""Chunks of a PNG that may inflate to many times their size."""

_DIRECTORIES = (b"Exif\0", b"MPF\0")
"""Segments of a JPEG whose entries may all name the same bytes, which Pillow copies every time."""

MEMORY_BYTES = 256 * 2**20
"""Memory that a decoder process may take for an image.

The largest image that `eurosat.image_header` allows takes about 200 MiB.
"""

CPU_SECONDS = 3
"""Processor time for one image, to within a second; the largest image takes less than a second."""

_TEXT_BYTES = 2**20
"""Bytes of all texts of a PNG, inflated."""

_MAX_PROCESSES = 4

_PR_SET_PDEATHSIG = 1
"""The kernel ends this process with its parent, whatever this process does (prctl(2))."""

_limited = False

Result = TypeVar("Result")


@dataclass(frozen=True)
class Upload:
    """An uploaded image file; ``name`` comes from the caller and is only used in answers."""

    name: str
    data: bytes


class Decoder:
    """The decoder of an API process, with processes of its own."""

    def __init__(self, card: ModelCard, api_servers: int = 1) -> None:
        """Store the model's input; no process starts before `start`.

        Args:
            card: The model's card.
            api_servers: Number of API processes, which share the cores.
        """
        # The card travels to a process with every image.
        self._card = replace(card, examples={}, reference="", metrics=None, data=None, split=None)
        processes = min(max(available_cores() // api_servers, 1), _MAX_PROCESSES)
        self._limiter = anyio.CapacityLimiter(processes)

    async def start(self) -> None:
        """Start the first process, so that the first upload need not wait for it."""
        # An upload tries again. Ctrl-C that meets a process at its start is raised here.
        with contextlib.suppress(anyio.BrokenWorkerProcess, OSError, KeyboardInterrupt):
            await anyio.to_process.run_sync(_prepare, cancellable=True, limiter=self._limiter)

    async def read(self, upload: Upload, *, tiles: bool) -> Picture:
        """Decode an upload, and resize or tile it; see `eurosat.inference.pictures.read_picture`.

        Raises:
            DataSourceError: The upload cannot be read, or needs too much memory or time.
        """
        task = partial(read_picture, upload.data, upload.name, self._card, tiles=tiles)
        if _is_small(upload.data):
            await asyncio.sleep(0)  # other requests have their turn between two images
            return task()
        return await self._in_process(task, upload.name)

    async def render(self, upload: Upload) -> Patches:
        """Decode an upload, and give its rendition in red, green and blue at the model's size.

        Returns:
            The pixels, uint8, shape (patch_size, patch_size, 3).

        Raises:
            DataSourceError: As `read`.
        """
        task = partial(_rendition, upload.data, upload.name, self._card.patch_size)
        return await self._in_process(task, upload.name)

    async def _in_process(self, task: Callable[[], Result], name: str) -> Result:
        try:
            return await anyio.to_process.run_sync(
                _run, task, name, cancellable=True, limiter=self._limiter
            )
        except anyio.BrokenWorkerProcess as error:
            _log.warning("a decoder process ended over an image: %s", error.__cause__ or error)
            raise DataSourceError(
                f"{name} cannot be decoded: decoding the file takes more than {CPU_SECONDS} s, or "
                "the file ends the decoder; save the image again with another program"
            ) from error


def _is_small(data: bytes) -> bool:
    """Return whether a file can be decoded within a millisecond or two."""
    if len(data) > _INLINE_BYTES:
        return False
    header = read_header(data)
    if header is None or header.decoded_bytes > _INLINE_DECODED_BYTES:
        return False
    match header.kind:
        case "JPEG":
            try:
                check_scans(data, _INLINE_SCANS)
            except ValueError:
                return False
            return not any(segment in data for segment in _DIRECTORIES)
        case "PNG":
            return not any(chunk in data for chunk in _COMPRESSED_TEXT)
    return False


def _prepare() -> None:
    """Import what the decoding needs, and limit the memory of this decoder process."""
    global _limited
    if _limited:
        return
    # Ctrl-C and many supervisors signal all processes at once. The API process ends this process
    # after the requests in flight.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    import rasterio
    from PIL import PngImagePlugin

    PngImagePlugin.MAX_TEXT_MEMORY = PngImagePlugin.MAX_TEXT_CHUNK = _TEXT_BYTES
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # a pipe, which libraries would fill with their warnings
    with rasterio.Env(), contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        hard = _private_bytes() + 2 * MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    _limited = True


def _private_bytes() -> int:
    """Private memory of this process in bytes, as ``RLIMIT_DATA`` counts it (proc_pid_statm(5))."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def _limit() -> None:
    """Give this process `CPU_SECONDS` and `MEMORY_BYTES` from now.

    The kernel ends a process that takes more time. The memory counts from now, because freed memory
    of the last image may stay in the address space, where a larger array does not fit.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        usage = resource.getrusage(resource.RUSAGE_SELF)
        used = int(usage.ru_utime + usage.ru_stime) + 1
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_SECONDS, hard))
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        memory = min(_private_bytes() + MEMORY_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))


def _return_freed_memory() -> None:
    """Return the memory of an image to the system; glibc may keep 100 MiB (malloc_trim(3))."""
    with contextlib.suppress(AttributeError, TypeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _run(task: Callable[[], Result], name: str) -> Result:
    """Do the work of a decoder process, within the limits."""
    _prepare()
    _limit()
    try:
        return task()
    except MemoryError as error:
        raise DataSourceError(
            f"{name} cannot be decoded: decoding the file takes more than "
            f"{MEMORY_BYTES // 2**20} MiB; send a smaller image"
        ) from error
    finally:
        _return_freed_memory()


def _rendition(data: bytes, name: str, size: int) -> Patches:
    return resize(decode(data, name, rgb=True).pixels, size)
