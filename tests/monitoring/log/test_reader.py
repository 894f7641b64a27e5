"""Reading and purging a log."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurosat.cli import main
from eurosat.errors import PredictionLogError
from eurosat.monitoring.log import reader as reader_module
from eurosat.monitoring.log.purge import purge
from eurosat.monitoring.log.reader import LogReader, read_log
from eurosat.monitoring.log.records import to_bytes, to_line
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.store import open_store, pack, unpack
from eurosat.monitoring.log.uploader import Uploader
from eurosat.monitoring.log.writer import Writer
from tests.monitoring.log.conftest import HEADER, Fill, T, record

STEM = "20270115T080000-0123456789abcdef"


def _today() -> str:
    return time.strftime("%Y%m%d", time.gmtime())


def put(folder: str, lines: bytes, stem: str = STEM) -> Path:
    """Write an object into a log, and return its file."""
    name, content = pack(stem, lines)
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_log_has_a_row_for_each_image_in_the_order_of_time(fill: Fill) -> None:
    embedding = to_bytes(np.array([1.5, -2]), "<f2")
    url = fill(
        record("late", time=T + 1, ood=None),
        record("early", n=2, embedded=1, embedding=embedding),
    )
    log = read_log(url)
    assert log.id.tolist() == ["early", "early", "late"]
    assert log.index.tolist() == [0, 1, 0]
    assert log.time.tolist() == [T, T, T + 1]
    assert set(log.model) == {"m-1"}
    assert set(log.route) == {"/predict"}
    np.testing.assert_allclose(log.latency, 0.0125)
    assert log.statistics.tolist() == [[0, 0.5], [1, 0.5], [0, 0.5]]
    assert log.probabilities.tolist() == [[0.25, 0.75]] * 3
    np.testing.assert_array_equal(log.ood, [0.125, 0.125, np.nan])
    assert log.embedding.tolist() == [[1.5, -2]]
    assert log.embedded.tolist() == [-1, 0, -1]
    assert (log.embedding.dtype, log.statistics.dtype) == (np.float32, np.float32)
    assert log.classes == {"m-1": ("Forest", "River")}
    assert (log.records, log.torn, log.dropped, log.foreign, log.duplicates) == (2, 0, 0, 0, 0)


def test_a_period_has_its_start_and_not_its_end(fill: Fill) -> None:
    url = fill(*(record(str(number), time=T + number) for number in range(4)))
    log = read_log(url, since=T + 1, until=T + 3)
    assert (log.id.tolist(), log.outside) == (["1", "2"], 2)
    empty = read_log(url, since=T + 9)
    assert (len(empty), empty.records) == (0, 0)
    assert empty.probabilities.shape == (0, 0)


def test_torn_lines_and_damaged_objects_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = str(tmp_path)
    whole = b"".join(map(to_line, [HEADER, *(record(f"{i:032}") for i in range(50))]))
    put(folder, whole + to_line(record("torn"))[:-9])
    cut = put(folder, whole.replace(b'"id":"', b'"id":"x'), f"{STEM[:-1]}0")
    cut.write_bytes(cut.read_bytes()[:-20])
    log = read_log(folder)
    assert log.torn == 2  # the torn line, and the cut object
    assert 50 < log.records < 100


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = put(str(tmp_path), to_line(HEADER) + to_line(record()))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in gzip's checksum
    path.write_bytes(content)
    assert read_log(str(tmp_path)).torn >= 1


def test_foreign_lines_and_files_are_counted(fill: Fill, tmp_path: Path) -> None:
    url = fill(record("1"))
    (Path(url) / "notes.txt").write_text("hello")
    put(url, to_line(HEADER) + b'{"level":"info"}\n{"v":2}\n')
    log = read_log(url)
    assert (log.records, log.foreign, log.torn) == (1, 3, 0)


def test_a_name_with_an_impossible_time_is_foreign(fill: Fill) -> None:
    url = fill(record("1"))
    (path,) = Path(url).rglob("*.gz")
    strange = Path(url, "2026-02-28", f"20260228T256199{path.name[15:]}")
    strange.parent.mkdir()
    strange.write_bytes(path.read_bytes())
    log = read_log(url, since=1.0)
    assert (log.records, log.foreign) == (1, 1)


def test_a_record_in_two_segments_is_counted_once(fill: Fill) -> None:
    fill(record("1"))
    log = read_log(fill(record("1"), record("2")))
    assert (log.id.tolist(), log.duplicates) == (["1", "2"], 1)


def test_models_with_other_classes_are_padded_and_can_be_told_apart(fill: Fill) -> None:
    features = {"embedded": 0, "embedding": to_bytes(np.array([1, 2, 3]), "<f2")}
    probabilities = to_bytes(np.array([[0.2, 0.3, 0.5]]))
    other = record("2", model="m-2", probabilities=probabilities, time=T + 1, **features)
    own = record("1", embedded=0, embedding=to_bytes(np.array([4, 5]), "<f2"))
    log = read_log(fill(own, other))
    np.testing.assert_array_equal(log.probabilities[0], [0.25, 0.75, np.nan])
    assert log.of_model("m-1").probabilities.tolist() == [[0.25, 0.75]]
    assert log.of_model("m-2").probabilities.shape == (1, 3)
    assert log.of_model("m-1").embedding.tolist() == [[4, 5]]
    assert log.of_model("m-2").embedding.tolist() == [[1, 2, 3]]
    assert log.of_model("m-2").embedded.tolist() == [0]
    assert log.of_model("m-1").records == 1
    with pytest.raises(PredictionLogError, match="no record of the model m-3, only of m-1, m-2"):
        log.of_model("m-3")


def test_a_folder_without_a_log_is_said(tmp_path: Path) -> None:
    with pytest.raises(PredictionLogError, match="holds no prediction log: name the folder of"):
        read_log(str(tmp_path))
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(PredictionLogError, match="holds 1 other files and no prediction log"):
        read_log(str(tmp_path))
    with pytest.raises(PredictionLogError, match="holds no prediction log"):
        read_log(str(tmp_path / "missing"))


def test_a_missing_bucket_is_said(bucket: str) -> None:
    with pytest.raises(PredictionLogError, match=r"gs://missing-bucket/log"):
        read_log("gs://missing-bucket/log")


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, spool: Spool, writer: Writer, tmp_path: Path) -> str:
    """A log of two segments, with the requests 0 to 3 and the request 4."""
    place = str(tmp_path / "log")
    if request.param == "bucket":
        place = f"{request.getfixturevalue('bucket')}/log"
    for numbers in ((0, 1, 2, 3), (4,)):
        for number in numbers:
            writer.write(record(str(number), time=T + number))
        writer.close()
    assert Uploader(spool, place).upload()
    return place


def test_a_reader_gives_each_record_once(url: str, fill: Fill) -> None:
    reader = LogReader(url)
    assert reader.read(since=T + 1).id.tolist() == ["1", "2", "3", "4"]
    assert len(reader.read(since=T + 1)) == 0
    store = open_store(url)
    store.put(*pack(STEM.replace("20270115", _today()), to_line(record("late", time=T + 2))))
    assert reader.read(since=T + 1).id.tolist() == ["late"]
    assert len(reader.read(since=T + 1)) == 0


def test_a_reading_of_a_period_lists_the_days_of_the_period(url: str) -> None:
    store = open_store(url)
    for day in ("2015-01-01", "2100-01-01"):
        store.put(f"{day}/a.txt", b"")
    assert {"2015-01-01", "2100-01-01"} < set(store.folders())
    log = read_log(url, since=T, until=T + 9)
    assert (log.records, log.foreign) == (5, 0)
    assert read_log(url).foreign == 2
    assert read_log(url, since=T).foreign == 1
    assert len(read_log(url, until=1.5e9)) == 0


def test_an_object_that_a_purge_replaces_during_a_reading_is_no_error(
    fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fill(record("1"), record("2"))
    listed = reader_module.list_segments
    purges = iter([["1"], []])

    def list_and_purge(*arguments: Any) -> Any:
        found = listed(*arguments)
        if ids := next(purges):
            purge(url, ids=ids)
        return found

    monkeypatch.setattr(reader_module, "list_segments", list_and_purge)
    assert read_log(url).id.tolist() == ["2"]


def test_a_purge_by_id_removes_these_records_only(url: str) -> None:
    done = purge(url, ids={"1", "4"})
    assert (done.records, done.objects, done.damaged) == (2, 2, 0)
    log = read_log(url)
    assert log.id.tolist() == ["0", "2", "3"]
    assert (log.torn, log.duplicates) == (0, 0)
    assert purge(url, ids={"1"}).records == 0


def test_a_purge_by_time_removes_what_is_older(url: str) -> None:
    assert purge(url, before=T + 3).records == 3
    assert read_log(url).id.tolist() == ["3", "4"]


def test_an_interrupted_purge_counts_no_record_twice(fill: Fill) -> None:
    """The new object is written, and the old object is not deleted yet."""
    url = fill(record("1"), record("2"))
    (old,) = Path(url).rglob("*.gz")
    content = old.read_bytes()
    purge(url, ids={"1"})
    old.write_bytes(content)
    assert read_log(url).duplicates == 1
    assert purge(url, ids={"1"}).records == 1
    assert read_log(url).id.tolist() == ["2"]


def test_a_log_whose_records_are_all_purged_is_empty_and_not_missing(url: str) -> None:
    assert purge(url, before=T + 9).objects == 2
    store = open_store(url)
    (name,) = store.names()
    (content,) = store.read([name])
    assert unpack(name, content) == (to_line(HEADER), True)
    log = read_log(url)
    assert (len(log), log.records, log.torn, log.foreign) == (0, 0, 0, 0)
    assert purge(url, before=T + 9).objects == 0
    assert store.names() == [name]


def test_a_purge_by_time_removes_torn_lines_and_damaged_objects(tmp_path: Path) -> None:
    """A torn line may hold personal data, and nobody can read its time."""
    folder, began = str(tmp_path), 1_800_000_000.0  # STEM's time
    torn = to_line(record("torn", time=began))[:-9]
    put(folder, to_line(HEADER) + torn)
    damaged = put(folder, to_line(HEADER), f"{STEM[:-1]}0")
    damaged.write_bytes(damaged.read_bytes()[:-20])
    put(folder, to_line(HEADER) + to_line(record("kept", time=began)), f"{STEM[:-1]}1")
    assert purge(folder, before=began).objects == 0
    assert purge(folder, ids=["torn"]).objects == 0
    done = purge(folder, before=began + 1)
    assert (done.records, done.objects, done.damaged) == (1, 3, 1)
    log = read_log(folder)
    assert (log.records, log.torn) == (0, 0)


def test_a_purge_keeps_the_lines_of_an_object_with_a_damaged_checksum(tmp_path: Path) -> None:
    began = 1_800_000_000.0  # STEM's time
    path = put(str(tmp_path), to_line(HEADER) + to_line(record("1", time=began + 5)))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    done = purge(str(tmp_path), before=began + 1)
    assert (done.records, done.damaged) == (0, 1)
    assert read_log(str(tmp_path)).records == 1


def test_a_purge_says_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = to_line(record("2")).replace(b'"v":1', b'"v":2')
    put(str(tmp_path), to_line(HEADER) + to_line(record("1")) + newer)
    assert main(["log", str(tmp_path), "--purge_before=2100-01-01"]) == 0
    assert "1 lines are of a newer version and were not searched" in capsys.readouterr().out
    assert read_log(str(tmp_path)).foreign == 1
