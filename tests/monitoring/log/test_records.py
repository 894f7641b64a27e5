"""Lines of the prediction log."""

import json

import msgspec
import numpy as np
import pytest

from eurosat.monitoring.log.records import (
    Dropped,
    ForeignLineError,
    Record,
    from_line,
    to_bytes,
    to_line,
    to_rows,
)
from tests.monitoring.log.conftest import HEADER, record


def test_a_record_is_one_line_of_json_with_arrays_in_base64() -> None:
    line = to_line(record(n=3))
    assert line.count(b"\n") == 1
    content = json.loads(line)
    assert content["v"] == 1
    assert content["n"] == 3
    assert content["embedding"] is None
    assert len(content["probabilities"]) == 32  # 3 x 2 x 4 bytes


@pytest.mark.parametrize("content", [record(), record(n=4), HEADER, Dropped(records=7)])
def test_a_line_is_read_as_it_was_written(content: Record) -> None:
    assert from_line(to_line(content).rstrip(b"\n")) == content


def test_arrays_keep_their_numbers_and_are_little_endian() -> None:
    array = np.array([[0.1, 2.5], [-1, 1e-9]], ">f4")
    assert to_bytes(array)[4:8] == np.float32(2.5).tobytes()
    assert (to_rows(to_bytes(array), 2) == array).all()


def test_a_torn_line_is_no_json() -> None:
    with pytest.raises(msgspec.DecodeError):
        from_line(to_line(record())[:-5])


@pytest.mark.parametrize(
    "line",
    [
        b'{"level": "info"}',
        b"[1]",
        b'{"v": 2, "id": "a"}',
        b'{"v": 1, "kind": "weather"}',
        b'{"v": 1, "id": "a"}',
        to_line(record(n=0)),
        to_line(record(statistics=b"abc")),
        to_line(record(probabilities=b"")),
        to_line(record(ood=b"12345678")),
        to_line(record(time=1e300)),
        to_line(record(time=-1.0)),
        to_line(record(embedding=b"ab")),
        to_line(record(embedding=b"ab", embedded=1)),
        to_line(record(embedding=b"abc", embedded=0)),
    ],
    # The lines have the time of the import, and every process must collect the same names.
    ids=range(14),
)
def test_a_line_of_something_else_is_foreign(line: bytes) -> None:
    with pytest.raises(ForeignLineError):
        from_line(line.rstrip(b"\n"))


def test_a_field_of_a_later_version_is_ignored() -> None:
    line = json.dumps(json.loads(to_line(record())) | {"new": 1}).encode()
    assert from_line(line) == record()
