"""``eurosat log`` on logs that were written by the service's own parts."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from eurosat.cli import main
from eurosat.monitoring.log.records import to_bytes
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.uploader import Uploader
from eurosat.monitoring.log.writer import Writer
from tests.monitoring.log.conftest import HEADER, T, record
from tests.monitoring.log.forbidden import forbidden_bucket

EMBEDDING = to_bytes(np.array([1.5, -2]), "<f2")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A log of the requests "one" (two images, one embedding) and "two" (no score)."""
    spool = Spool(tmp_path / "spool", 2**26)
    spool.create()
    writer = Writer(spool, HEADER, seconds=30)
    writer.write(record("one", n=2, embedded=1, embedding=EMBEDDING))
    writer.write(record("two", ood=None, time=T + 60))
    writer.close()
    assert Uploader(spool, str(tmp_path / "log")).upload()
    return str(tmp_path / "log")


def test_csv_has_a_row_for_each_image(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", url, "--format=csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["id"], row["index"]) for row in rows] == [("one", "0"), ("one", "1"), ("two", "0")]
    assert rows[1]["label"] == "River"
    assert rows[1]["confidence"] == rows[1]["probability of River"] == "0.75"
    assert rows[1]["probability of Forest"] == "0.25"
    assert rows[1]["mean of R"] == "1"
    assert [row["ood"] for row in rows] == ["0.125", "0.125", ""]
    assert rows[0]["time"].endswith("+00:00")
    assert rows[0]["latency"] == "0.012500"


def test_parquet_has_embeddings_and_true_types(url: str, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    output = tmp_path / "log.parquet"
    assert main(["log", url, "--format=parquet", f"--output={output}"]) == 0
    table = parquet.read_table(output)
    assert table["id"].to_pylist() == ["one", "one", "two"]
    assert table["embedding"].to_pylist() == [None, [1.5, -2], None]
    assert table["ood"].to_pylist() == [0.125, 0.125, None]
    assert table["time"].to_pylist()[0].timestamp() == T
    assert table["probabilities"].to_pylist()[0] == [0.25, 0.75]
    assert table["confidence"].to_pylist()[0] == 0.75


def test_parquet_of_an_empty_period_has_the_columns(url: str, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    output = tmp_path / "log.parquet"
    options = ["--format=parquet", f"--output={output}", "--until=2000-01-01"]
    assert main(["log", url, *options]) == 0
    table = parquet.read_table(output)
    assert table.num_rows == 0
    assert {"id", "time", "embedding"} <= set(table.column_names)


def test_the_table_counts_requests_images_and_labels(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", url]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("2 requests, 3 images, from ")
    assert "m-1: 3 images" in shown
    assert "River                          3  100.0%" in shown
    assert "0 requests dropped, 0 lines torn" in shown


def test_probabilities_that_are_no_numbers_are_shown_as_such(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = Writer(Spool(tmp_path / "spool", 2**26), HEADER, seconds=30)
    nan = to_bytes(np.full((1, 2), np.nan))
    writer.write(record("three", probabilities=nan, time=T + 90))
    writer.close()
    assert Uploader(Spool(tmp_path / "spool", 2**26), url).upload()
    assert main(["log", url]) == 0
    shown = capsys.readouterr().out
    assert "not a number                   1   25.0%" in shown
    assert main(["log", url, "--format=csv"]) == 0
    *_, last = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (last["id"], last["label"], last["confidence"]) == ("three", "", "")


def test_a_period_and_a_model_can_be_chosen(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rows.csv"
    options = ["--format=csv", f"--output={output}", "--model=m-1", "--until=2000-01-01"]
    assert main(["log", url, *options]) == 2
    assert "no record of the model m-1, only of no model" in capsys.readouterr().err
    assert main(["log", url, "--since=2000-01-01T00:00+01:00", *options[:3]]) == 0
    assert output.read_text("utf-8").count("\n") == 4
    assert main(["log", url, "--until=2000-01-01"]) == 0
    assert "no records in this period" in capsys.readouterr().out


def test_an_incomplete_log_is_said_on_standard_error(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = Path(url).rglob("*.gz")
    path.write_bytes(path.read_bytes()[:-10])
    assert main(["log", url, "--format=csv"]) == 0
    assert "the log is incomplete: 0 requests were dropped, and" in capsys.readouterr().err


def test_a_purge_removes_records(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", url, "--purge_id=one,other"]) == 0
    assert capsys.readouterr().out == "1 records removed, 1 objects replaced or deleted\n"
    assert main(["log", url, "--purge_id=one"]) == 2
    assert "no record has these ids: check the ids" in capsys.readouterr().err
    assert main(["log", url, "--format=csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["id"] for row in rows] == ["two"]
    assert main(["log", url, "--purge_before=2000-01-01"]) == 0
    assert main(["log", url, "--purge_before=2100-01-01"]) == 0
    capsys.readouterr()
    assert main(["log", url]) == 0
    assert capsys.readouterr().out.startswith("no records in this period\n0 requests dropped")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format=parquet"], "Parquet is binary: name a file with --output"),
        (["--since=yesterday"], "--since is 'yesterday', not a time: write a time such as"),
        (["--purge_id=one", "--format=csv"], "remove records and show none: remove the other"),
        (["--purge_id=one", "--until=2026-01-01"], "remove records and show none"),
    ],
)
def test_a_mistake_is_named(
    url: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", url, *options]) == 2
    assert message in capsys.readouterr().err


def test_a_bucket_without_rights_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gcsfs")
    with forbidden_bucket() as emulator:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
        for options in ([], ["--format=csv"], ["--purge_id=one"]):
            assert main(["log", "gs://bucket/log", *options]) == 2
            (message,) = capsys.readouterr().err.splitlines()
            assert "gs://bucket/log cannot be read" in message
            assert "does not have storage.objects.list access" in message
            assert message.endswith("check the address and the rights of this machine's account")
