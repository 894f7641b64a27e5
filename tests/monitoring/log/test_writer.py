"""The writer: one write a record, and never an error."""

import errno
import logging
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eurosat.monitoring.log.reader import read_log
from eurosat.monitoring.log.records import to_line
from eurosat.monitoring.log.spool import SEGMENT_BYTES, Spool
from eurosat.monitoring.log.uploader import Uploader
from eurosat.monitoring.log.writer import Writer
from tests.monitoring.log.conftest import HEADER, MIB, Fill, record
from tests.monitoring.log.small_disk import leave_free, small_disk


def test_a_record_is_in_the_file_when_write_returns(spool: Spool, writer: Writer) -> None:
    assert writer.write(record("1"))
    (path,) = spool.folder.iterdir()
    assert path.read_bytes() == to_line(HEADER) + to_line(record("1"))
    assert writer.write(record("2"))
    assert path.read_bytes().endswith(to_line(record("2")))


def test_a_record_is_written_by_one_call(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first record of a segment too: a header without a record is of no use."""
    write, calls = os.write, []

    def counted(file: int, content: bytes) -> int:
        calls.append(content)
        return write(file, content)

    monkeypatch.setattr(os, "write", counted)
    for number in range(3):
        writer.write(record(str(number)))
    assert [content.count(b"\n") for content in calls] == [2, 1, 1]


def test_no_segment_is_larger_than_4_mib(spool: Spool, writer: Writer) -> None:
    large = record(n=1000)
    count = 2 * SEGMENT_BYTES // len(to_line(large)) + 1
    for _ in range(count):
        assert writer.write(large)
    writer.close()
    sizes = [path.stat().st_size for path in spool.closed()]
    assert len(sizes) == 3
    assert max(sizes) <= SEGMENT_BYTES


def test_an_old_segment_is_closed(spool: Spool) -> None:
    writer = Writer(spool, HEADER, seconds=0.2)
    writer.write(record())
    writer.close_if_old()
    assert spool.closed() == []
    time.sleep(0.25)
    writer.close_if_old()
    assert len(spool.closed()) == 1


def test_a_full_spool_drops_records_and_the_log_tells_the_number(
    spool: Spool, writer: Writer, fill: Fill, caplog: pytest.LogCaptureFixture
) -> None:
    spool.max_bytes = SEGMENT_BYTES - 1
    with caplog.at_level(logging.ERROR):
        assert [writer.write(record(str(number))) for number in range(5)] == [False] * 5
    assert len(caplog.records) == 1
    assert "predictions are answered, but the prediction log drops them" in caplog.text
    spool.max_bytes = 64 * 2**20
    time.sleep(1.05)  # the writer looks again after a second
    log = read_log(fill(record("after")))
    assert (log.dropped, log.records, log.torn) == (5, 1, 0)


def test_a_disk_that_becomes_full_leaves_no_torn_line(
    spool: Spool, writer: Writer, tmp_path: Path
) -> None:
    """The kernel writes a part of the record, as on a full disk, and fails the next call."""
    writer.write(record("1"))
    (path,) = spool.folder.iterdir()
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        assert not writer.write(record("2"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    Uploader(spool, str(tmp_path / "log")).upload()
    log = read_log(str(tmp_path / "log"))
    assert log.id.tolist() == ["1"]
    assert log.torn == 0


@pytest.mark.slow
def test_a_full_disk_leaves_whole_lines_and_is_used_again_when_it_has_space(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        spool = Spool(disk / "spool", 64 * MIB)
        spool.create()
        writer = Writer(spool, HEADER, seconds=30)
        large = record("large", n=1000)
        assert writer.write(record("before"))
        filler = leave_free(disk, 3 * len(to_line(large)))
        written = [writer.write(record(str(number), n=1000)) for number in range(8)]
        assert written == sorted(written, reverse=True)
        assert 1 <= sum(written) <= 3
        uploader = Uploader(spool, str(tmp_path / "log"))
        assert uploader.upload()  # frees the space of its segment, not enough for a further one
        time.sleep(1.05)  # the writer looks again after a second
        assert not writer.write(record("full"))
        filler.unlink()
        time.sleep(1.05)
        assert writer.write(record("after"))
        writer.close()
        assert uploader.upload()
    log = read_log(str(tmp_path / "log"))
    assert log.records == 2 + sum(written)
    assert (log.dropped, log.torn, log.foreign) == (9 - sum(written), 0, 0)


def test_an_error_of_the_disk_is_counted_and_not_raised(
    spool: Spool, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        assert not writer.write(record("1"))
    time.sleep(1.05)
    assert writer.write(record("2"))


def test_a_spool_that_another_program_removes_is_made_again(
    spool: Spool, writer: Writer, fill: Fill
) -> None:
    writer.write(record("1"))
    shutil.rmtree(spool.folder)
    writer.close()
    log = read_log(fill(record("2")))
    assert log.id.tolist() == ["2"]
    assert log.dropped == 1


CRASH = """
import os, signal, sys
from pathlib import Path
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.writer import Writer
from tests.monitoring.log.conftest import HEADER, record

writer = Writer(Spool(Path(sys.argv[1]), 2**26), HEADER, seconds=30)
for number in range(10**6):
    if writer.write(record(str(number))):
        os.write(1, b"%d\\n" % number)
"""


@pytest.mark.process
@pytest.mark.parametrize("moment", [0.0, 0.01, 0.03, 0.1])
def test_what_was_written_survives_sigkill(spool: Spool, tmp_path: Path, moment: float) -> None:
    command = [sys.executable, "-c", CRASH, str(spool.folder)]
    # A test that serves in this process leaves the variable, whose folder is gone.
    environment = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(moment)
    process.kill()
    told = (first + process.stdout.read()).split()
    process.wait()
    Uploader(spool, str(tmp_path / "log")).upload()
    found = read_log(str(tmp_path / "log")).id.tolist()
    assert len(set(found)) == len(found)
    assert {number.decode() for number in told} <= set(found)
    assert len(found) <= len(told) + 1  # a record was written, and was not told yet
