"""The upload of segments, to a folder and to a bucket."""

import logging
import os
import threading
from pathlib import Path

import pytest

from eurosat.errors import PredictionLogError
from eurosat.monitoring.log.reader import read_log
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.store import open_store, pack
from eurosat.monitoring.log.uploader import Uploader
from eurosat.monitoring.log.writer import Writer
from tests.monitoring.log.conftest import record
from tests.monitoring.log.forbidden import forbidden_bucket


def test_a_segment_leaves_the_spool_when_the_folder_has_it(
    spool: Spool, writer: Writer, tmp_path: Path
) -> None:
    writer.write(record("1"))
    uploader = Uploader(spool, str(tmp_path / "log"))
    assert uploader.upload()
    assert not (tmp_path / "log").exists()  # the segment is still open
    writer.close()
    assert uploader.upload()
    assert list(spool.folder.iterdir()) == []
    assert read_log(str(tmp_path / "log")).id.tolist() == ["1"]


def test_a_bucket_gets_a_segment_once(spool: Spool, writer: Writer, bucket: str) -> None:
    """As if the service was killed between the upload and the deletion of the segment."""
    writer.write(record("1"))
    writer.close()
    (segment,) = spool.closed()
    lines = segment.read_bytes()
    uploader = Uploader(spool, f"{bucket}/log")
    assert uploader.upload()
    segment.write_bytes(lines)
    assert uploader.upload()
    assert list(spool.folder.iterdir()) == []
    log = read_log(f"{bucket}/log")
    assert (log.id.tolist(), log.duplicates) == (["1"], 0)


def test_a_bucket_keeps_an_object_that_exists(bucket: str) -> None:
    store = open_store(f"{bucket}/log")
    name, content = pack("20261126T120000-0123456789abcdef", b"{}\n")
    store.put(name, content)
    store.put(name, b"another content")
    assert store.read([name]) == [content]


@pytest.mark.parametrize(("right", "uploaded"), [("delete", True), ("create", False)])
def test_an_account_that_may_only_create_objects_need_not_delete_one_that_exists(
    spool: Spool, writer: Writer, right: str, uploaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gcsfs")
    writer.write(record("1"))
    writer.close()
    with forbidden_bucket(right) as emulator:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
        assert Uploader(spool, "gs://bucket/log").upload() == uploaded
    assert (spool.closed() == []) == uploaded


def test_two_uploaders_of_one_spool_upload_every_record_once(
    spool: Spool, writer: Writer, bucket: str
) -> None:
    for number in range(20):
        writer.write(record(str(number)))
        writer.close()
    uploaders = [Uploader(spool, bucket) for _ in range(2)]
    threads = [threading.Thread(target=uploader.upload) for uploader in uploaders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = read_log(bucket)
    assert (log.records, log.duplicates, log.foreign) == (20, 0, 0)


def test_the_same_lines_have_the_same_name_and_content() -> None:
    assert pack("20261126T120000-0123456789abcdef", b"a") == pack(
        "20261126T120000-0123456789abcdef", b"a"
    )
    assert pack("20261126T120000-0123456789abcdef", b"a")[0].startswith(
        "2026-11-26/20261126T120000-0123456789abcdef-"
    )


def test_a_store_that_fails_keeps_the_records_and_is_said_once(
    spool: Spool, writer: Writer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer.write(record("1"))
    writer.close()
    (tmp_path / "log").write_text("a file where a folder should be")
    uploader = Uploader(spool, str(tmp_path / "log"))
    with caplog.at_level(logging.INFO):
        assert not uploader.upload()
        assert not uploader.upload()
        assert [entry.levelname for entry in caplog.records] == ["ERROR"]
        assert "check the address and the rights of the service's account" in caplog.text
        (tmp_path / "log").unlink()
        assert uploader.upload()
    assert "is uploaded to" in caplog.records[-1].getMessage()
    assert read_log(str(tmp_path / "log")).id.tolist() == ["1"]


def test_a_segment_that_is_refused_does_not_hold_back_the_others(
    spool: Spool, writer: Writer, tmp_path: Path
) -> None:
    for number in range(3):
        writer.write(record(str(number)))
        writer.close()
    first, *_ = spool.closed()
    name, _ = pack(first.stem, first.read_bytes())
    (tmp_path / "log" / name).parent.mkdir(parents=True)
    first.unlink()
    first.mkdir()  # cannot be read
    uploader = Uploader(spool, str(tmp_path / "log"))
    assert not uploader.upload()
    assert spool.closed() == [first]
    assert read_log(str(tmp_path / "log")).records == 2


def test_a_folder_without_rights_keeps_the_records(
    spool: Spool, writer: Writer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "log").mkdir(mode=0o500)
    writer.write(record("1"))
    writer.close()
    assert not Uploader(spool, str(tmp_path / "log")).upload()
    assert "Permission denied" in caplog.text
    assert len(spool.closed()) == 1


def test_the_end_uploads_what_is_left(spool: Spool, writer: Writer, tmp_path: Path) -> None:
    uploader = Uploader(spool, str(tmp_path / "log"))
    uploader.start()
    writer.write(record("1"))
    writer.close()
    uploader.finish(10)
    assert read_log(str(tmp_path / "log")).id.tolist() == ["1"]


def test_the_end_says_what_waits(
    spool: Spool, writer: Writer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log").write_text("")
    uploader = Uploader(spool, str(tmp_path / "log"))
    uploader.start()
    writer.write(record("1"))
    writer.close()
    uploader.finish(10)
    assert "1 segments of the prediction log (0.0 MiB) wait in" in caplog.text


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(PredictionLogError, match="unknown protocol: name a folder, or a URL"):
        open_store("nothing://bucket/log")
