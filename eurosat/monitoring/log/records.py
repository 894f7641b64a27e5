"""The lines of the prediction log: a record for each request, and two kinds of notes.

Every line is one JSON object. A segment starts with a `Header`, which says what the numbers of the
following records mean. A `Dropped` note counts the records that could not be written before it.
Arrays are little-endian and in base64, which keeps every bit; 512 features as text would take about
20 times as long to write.
"""

from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

LAYOUT = 1
"""Number of the lines' layout; the number grows when a field changes its meaning."""


_LATEST = 253_402_300_800.0
"""Start of the year 10000 in seconds since 1970, which `datetime` cannot express."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The predictions of one request.

    Attributes:
        id: The request's id, which the service made.
        time: Seconds since 1970 when the predictions were made.
        model: Version of the model.
        route: Path of the route, without the caller's part of the address.
        latency: Seconds from the request's arrival until the record was made.
        n: Number of images.
        statistics: Input statistics, float32, shape (n, S).
        probabilities: Probabilities, float32, shape (n, classes).
        ood: Out-of-distribution scores, float32, shape (n,); None if the model has no reference.
        embedded: Number of the image whose first patch has its features in ``embedding``.
        embedding: Features of one patch, float16, shape (F,).
        v: Number of the layout.
    """

    id: str
    time: float
    model: str
    route: str
    latency: float
    n: int
    statistics: bytes
    probabilities: bytes
    ood: bytes | None = None
    embedded: int | None = None
    embedding: bytes | None = None
    v: int = LAYOUT


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a segment.

    Attributes:
        model: Version of the model.
        classes: Names of the columns of ``probabilities``.
        statistics: Names of the columns of ``statistics``.
        kind: ``"header"``.
        v: Number of the layout.
    """

    model: str
    classes: tuple[str, ...]
    statistics: tuple[str, ...]
    kind: Literal["header"] = "header"
    v: int = LAYOUT


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """A note that records are missing.

    Attributes:
        records: Number of records that the writer dropped since its last note.
        kind: ``"dropped"``.
        v: Number of the layout.
    """

    records: int
    kind: Literal["dropped"] = "dropped"
    v: int = LAYOUT


class _Envelope(msgspec.Struct):
    v: int
    kind: str = "record"


class ForeignLineError(ValueError):
    """A line is JSON, but no line of this layout of the prediction log."""


_encoder = msgspec.json.Encoder()
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    "record": msgspec.json.Decoder(Record),
    "header": msgspec.json.Decoder(Header),
    "dropped": msgspec.json.Decoder(Dropped),
}
_envelope = msgspec.json.Decoder(_Envelope)


def to_line(content: Record | Header | Dropped) -> bytes:
    """Write a line, with its line end."""
    return _encoder.encode(content) + b"\n"


def from_line(line: bytes) -> Record | Header | Dropped:
    """Read a line.

    Args:
        line: A line without its line end.

    Raises:
        ForeignLineError: The line is JSON, but no line of the log, or of a newer layout.
        msgspec.DecodeError: The line is no JSON, for example because its end is missing.
    """
    try:
        envelope = _envelope.decode(line)
        if envelope.v != LAYOUT or envelope.kind not in _decoders:
            raise ForeignLineError(f"version {envelope.v}, kind {envelope.kind!r}")
        content: Record | Header | Dropped = _decoders[envelope.kind].decode(line)
    except msgspec.ValidationError as error:
        raise ForeignLineError(str(error)) from error
    if isinstance(content, Record) and not _consistent(content):
        raise ForeignLineError("the arrays do not fit the number of images, or the time is none")
    return content


def _consistent(record: Record) -> bool:
    """Whether the time is one, the arrays have whole rows, and the embedding is of an image."""
    return (
        record.n > 0
        and 0 <= record.time < _LATEST
        and len(record.statistics) % (4 * record.n) == 0
        and len(record.probabilities) % (4 * record.n) == 0
        and len(record.probabilities) > 0
        and (record.ood is None or len(record.ood) == 4 * record.n)
        and (record.embedding is None) == (record.embedded is None)
        and (record.embedded is None or 0 <= record.embedded < record.n)
        and (record.embedding is None or len(record.embedding) % 2 == 0)
    )


def to_bytes(array: npt.NDArray[Any], dtype: Literal["<f4", "<f2"] = "<f4") -> bytes:
    """Convert an array to the bytes of a record's field."""
    return np.ascontiguousarray(array, dtype).tobytes()


def to_rows(content: bytes, rows: int) -> npt.NDArray[np.float32]:
    """Read an array of float32, shape (rows, columns), from a record's field."""
    return np.frombuffer(content, "<f4").reshape(rows, -1).astype(np.float32, copy=False)
