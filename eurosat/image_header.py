"""What an image file declares, read from its first bytes before the file is decoded.

A file of a few bytes can declare gigabytes of pixels, thousands of bands or scans. The limits are
checked here, so that a file over a limit costs nothing.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from eurosat.image_checks import UnsuitableImageError

MAX_PIXELS = 4096 * 4096
"""Pixels of the largest image."""

MAX_BYTES = 3 * MAX_PIXELS
"""Bytes of the pixels of the largest image of bands, which is 1391x1391 pixels for 13 bands."""

MAX_SCANS = 32
"""Scans of a JPEG; programs that write progressive JPEGs write about 10.

Every scan takes as long as the decoding of the whole image.
"""

MAX_PAGES = 64
"""Pages of a TIFF. A cloud-optimised GeoTIFF has one page for each of its overviews."""

_MAX_ENTRIES = 256
"""Segments of a JPEG, or tags of a TIFF, that are read in search of the header."""

_JPEG_START = b"\xff\xd8\xff"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels by the colour type of the PNG specification, section 11.2.1."""

_TIFF_STARTS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
"""Byte order by the first bytes of a TIFF; a ``+`` marks a BigTIFF."""


@dataclass(frozen=True)
class ImageHeader:
    """What a JPEG, PNG or TIFF file declares.

    Attributes:
        kind: Name of the format.
        width: Width in pixels.
        height: Height in pixels.
        channels: Number of channels.
        sample_bytes: Bytes of one value of one channel.
        pages: Number of pages of a TIFF, counted to `MAX_PAGES` + 1.
    """

    kind: str
    width: int
    height: int
    channels: int
    sample_bytes: int = 1
    pages: int = 1

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the decoded pixels."""
        return self.width * self.height * self.channels * self.sample_bytes


def check_header(header: ImageHeader) -> None:
    """Check the limits of this module, but for `MAX_SCANS`.

    Raises:
        UnsuitableImageError: The file declares more than a limit allows.
    """
    size = f"{header.width}x{header.height}"
    if header.width * header.height > MAX_PIXELS:
        raise UnsuitableImageError(
            f"{size} pixels exceed the limit of {MAX_PIXELS} pixels; cut the image into smaller "
            "images"
        )
    if header.channels > 4 and header.decoded_bytes > MAX_BYTES:
        raise UnsuitableImageError(
            f"{size} pixels of {header.channels} bands have {header.decoded_bytes} bytes, and the "
            f"limit is {MAX_BYTES} bytes; cut the image into smaller images"
        )
    if header.pages > MAX_PAGES:
        raise UnsuitableImageError(
            f"the file has more pages than the limit of {MAX_PAGES} pages; save one image in a file"
        )


def check_scans(data: bytes, limit: int = MAX_SCANS) -> None:
    """Check the number of scans of a JPEG.

    Args:
        data: The file's bytes; within the pixels, no byte 0xFF is followed by 0xDA.
        limit: Largest number of scans.

    Raises:
        UnsuitableImageError: The file has more scans.
    """
    if (scans := data.count(b"\xff\xda")) > limit:
        raise UnsuitableImageError(
            f"{scans} scans exceed the limit of {limit} scans; save the image again"
        )


def is_tiff(data: bytes) -> bool:
    """Return whether a file begins as a TIFF does."""
    return data[:4] in _TIFF_STARTS


def read_header(data: bytes) -> ImageHeader | None:
    """Read what an image file declares; the function decodes nothing.

    Args:
        data: The file's bytes.

    Returns:
        The header; None if the file is no JPEG, PNG or TIFF, or if its header is damaged.
    """
    try:
        if data.startswith(_JPEG_START):
            return _jpeg(data)
        if data.startswith(_PNG_START):
            return _png(data)
        if is_tiff(data):
            return _tiff(data)
    except (struct.error, IndexError, KeyError, StopIteration):
        pass  # the file ends within its header, or leaves out a part of it
    return None


def _jpeg(data: bytes) -> ImageHeader | None:
    """Read the frame header, which follows segments of other kinds (ITU-T T.81, annex B)."""
    position = 3  # after the 0xFF that begins the first segment
    for _ in range(_MAX_ENTRIES):
        marker = data[position]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, channels = struct.unpack_from(">HHB", data, position + 4)
            return ImageHeader("JPEG", width, height, channels)
        if marker in (0xD9, 0xDA):  # the image ends, or its data begin, without a frame
            return None
        if marker == 0xFF:  # any number of these bytes may come before a marker
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 1)
        position += 2 + max(length, 2)
    return None


def _png(data: bytes) -> ImageHeader | None:
    if data[12:16] != b"IHDR":  # the first chunk of a PNG
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    return ImageHeader("PNG", width, height, _PNG_CHANNELS[colour], 2 if depth == 16 else 1)


def _tiff(data: bytes) -> ImageHeader:
    order = _TIFF_STARTS[data[:4]]
    big = b"+" in data[:4]
    pages = _tiff_pages(data, order, big)
    tags = _tiff_tags(data, order, big, next(pages))
    bits = tags.get(258, 1)
    return ImageHeader(
        "TIFF",
        width=tags[256],
        height=tags[257],
        channels=tags.get(277, 1),
        sample_bytes=(bits + 7) // 8,
        pages=1 + sum(1 for _ in pages),
    )


def _tiff_pages(data: bytes, order: str, big: bool) -> Iterator[int]:
    """Yield the offset of every page's directory, at most `MAX_PAGES` + 1."""
    number, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    position = 8 if big else 4
    for _ in range(MAX_PAGES + 1):
        (offset,) = struct.unpack_from(order + number, data, position)
        if offset == 0 or offset >= len(data):
            return
        yield offset
        (entries,) = struct.unpack_from(order + count, data, offset)
        position = offset + struct.calcsize(count) + entries * entry


def _tiff_tags(data: bytes, order: str, big: bool, offset: int) -> dict[int, int]:
    """Read the first value of the tags of whole numbers, those that `_tiff` needs among them."""
    number, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    (entries,) = struct.unpack_from(order + count, data, offset)
    first = offset + struct.calcsize(count)
    tags = {}
    for position in range(first, first + min(entries, _MAX_ENTRIES) * entry, entry):
        tag, kind, values = struct.unpack_from(f"{order}HH{number}", data, position)
        value = {3: "H", 4: "I", 16: "Q"}.get(kind)
        if tag not in (256, 257, 258, 277) or value is None:
            continue
        position += 4 + struct.calcsize(number)
        if values * struct.calcsize(value) > struct.calcsize(number):  # the values are elsewhere
            (position,) = struct.unpack_from(order + number, data, position)
        (tags[tag],) = struct.unpack_from(order + value, data, position)
    return tags
