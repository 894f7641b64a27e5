"""Segments in the spool, and which of them are adopted."""

import errno
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from eurosat.errors import PredictionLogError
from eurosat.monitoring.log.settings import log_settings
from eurosat.monitoring.log.spool import ABANDONED_SECONDS, Spool

TIME = "20261126T120000"


def segment(spool: Spool, name: str, content: bytes = b"x\n") -> Path:
    path = spool.folder / name
    path.write_bytes(content)
    return path


def own_name(spool: Spool) -> str:
    return spool.new_segment().name


def test_a_segment_of_a_living_process_is_left_alone(spool: Spool) -> None:
    path = segment(spool, own_name(spool))
    assert spool.adopt() == 0
    assert path.exists()


@pytest.mark.process
def test_a_segment_of_an_ended_process_is_adopted(spool: Spool) -> None:
    code = (
        "import sys; from pathlib import Path; from eurosat.monitoring.log.spool import Spool\n"
        "Spool(Path(sys.argv[1]), 1).new_segment().write_text('x')"
    )
    subprocess.run([sys.executable, "-c", code, str(spool.folder)], check=True)
    assert spool.closed() == []
    assert spool.adopt() == 1
    (path,) = spool.closed()
    assert path.read_text() == "x"


def test_a_segment_of_a_zombie_is_adopted(spool: Spool) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    process = subprocess.Popen([sys.executable, "-c", ""])
    name = own_name(spool).split(".")
    start = Path(f"/proc/{process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    segment(spool, ".".join([*name[:2], str(process.pid), start, "open"]))
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert spool.adopt() == 1
    process.wait()


def test_a_later_process_of_the_same_number_is_another_writer(spool: Spool) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    name = own_name(spool).split(".")
    segment(spool, ".".join([*name[:3], "1", "open"]))
    assert spool.adopt() == 1


def test_a_segment_is_left_alone_while_the_system_cannot_tell_whether_its_writer_lives(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = segment(spool, own_name(spool))

    def fail(*_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", fail)
        with pytest.raises(OSError, match="too many open files"):
            spool.adopt()
    assert path.exists()


@pytest.mark.parametrize(("age", "adopted"), [(0, 0), (ABANDONED_SECONDS + 1, 1), (-3600, 1)])
def test_another_containers_segment_is_adopted_when_it_is_old(
    spool: Spool, age: float, adopted: int
) -> None:
    """A change in the future means that the clock was set."""
    name = own_name(spool).split(".")
    path = segment(spool, ".".join([name[0], "00000000", *name[2:]]))
    os.utime(path, (time.time() - age,) * 2)
    assert spool.adopt() == adopted


def test_an_empty_segment_is_deleted(spool: Spool) -> None:
    path = segment(spool, own_name(spool), b"")
    spool.close(path)
    assert list(spool.folder.iterdir()) == []


def test_other_files_are_neither_counted_nor_touched(spool: Spool) -> None:
    segment(spool, "notes.txt")
    segment(spool, "x.open")
    segment(spool, f"{TIME}-0123456789abcdef.jsonl", b"abc")
    assert spool.adopt() == 0
    assert len(spool.closed()) == 1
    assert spool.usage().files == 1
    assert spool.usage().size == 3
    assert (spool.folder / "notes.txt").exists()


def test_an_open_segment_reserves_its_largest_size(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 9 * 2**20)
    spool.create()
    assert spool.shortage() is None
    segment(spool, own_name(spool))
    assert spool.shortage() is None
    segment(spool, own_name(spool))
    assert "at most 9 MiB may: restore the upload, or raise --log_spool_mib" in str(
        spool.shortage()
    )


def test_the_spool_leaves_space_on_its_disk(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(spool.folder)
    left = 10 * 2**20 // real.f_frsize
    monkeypatch.setattr(
        os, "statvfs", lambda path: os.statvfs_result([*real[:4], left, *real[5:10]])
    )
    assert "has 10 MiB left: free some space" in str(spool.shortage())


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        PredictionLogError, match=r"cannot be written .* choose another --log_spool"
    ):
        Spool(tmp_path / "file" / "spool", 1).create()


def test_other_users_cannot_read_the_spool(spool: Spool) -> None:
    assert spool.folder.stat().st_mode & 0o077 == 0


def test_no_other_user_owns_a_folder_above_the_default_spool() -> None:
    settings = log_settings("gs://bucket/log", None, 256, 30)
    assert settings is not None
    assert settings.spool.parent == Path(tempfile.gettempdir())  # which is sticky
    other = log_settings("gs://bucket/other", None, 256, 30)
    assert other is not None
    assert other.spool != settings.spool
