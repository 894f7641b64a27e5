"""``eurosat drift report`` on whole, damaged and foreign logs, and settings without a result."""

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eurosat.cli import main
from eurosat.monitoring.log.purge import purge
from tests.monitoring.drift.samples import known_log, known_reference, write_log
from tests.monitoring.log.forbidden import forbidden_bucket

REPORT = ["drift", "report", "--reference=model.onnx", "--log=log"]
SERVE = ["drift", "serve", "--reference=model.onnx", "--log=log"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*REPORT, "--window=99"], "--window 99 is too few images to say anything: choose at"),
        ([*REPORT, "--since=yesterday"], "--since is 'yesterday', not a time: write a time"),
        ([*REPORT, "--until=noon"], "--until is 'noon', not a time: write a time"),
        ([*SERVE, "--interval=0"], "--interval and --lookback must be more than 0"),
    ],
)
def test_a_setting_without_a_result_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "EUROSAT_API_KEY is empty"),
        (" \n", "EUROSAT_API_KEY is empty"),
        ("a\nb", "EUROSAT_API_KEY holds a line break or another character that no header can"),
        ("a\x7f", "EUROSAT_API_KEY holds a line break or another character that no header can"),
        (os.fsdecode(b"k\xff"), "EUROSAT_API_KEY holds a line break or another character"),
    ],
    ids=["empty", "blank", "line break", "control character", "not UTF-8"],
)
def test_a_key_that_nobody_can_send_is_refused(
    key: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUROSAT_API_KEY", key)
    assert main(SERVE) == 2
    assert message in capsys.readouterr().err


Report = Callable[[Path | str], dict[str, Any]]


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Compare a log with the known reference, and return ``drift.json``; empty after a failure."""
    reference = tmp_path / "known.reference.npz"
    reference.write_bytes(known_reference().to_bytes())

    def run(log: Path | str) -> dict[str, Any]:
        files = [f"--reference={reference}", f"--log={log}", f"--output={tmp_path}/drift"]
        code = main(["drift", "report", *files])
        output = tmp_path / "drift/drift.json"
        assert code == (0 if output.exists() else 2)
        content: dict[str, Any] = json.loads(output.read_text("utf-8")) if code == 0 else {}
        return content

    return run


def test_a_log_of_the_service_is_compared(report: Report, tmp_path: Path) -> None:
    content = report(write_log(tmp_path, known_log(300, 1)))
    assert (content["verdict"], content["pictures"], content["notes"]) == ("quiet", 300, [])
    (window,) = content["windows"]
    assert all(family["tests"] for family in window["families"].values())


def test_a_folder_that_cannot_be_written_is_named_with_its_option(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "drift").touch()
    assert report(write_log(tmp_path, known_log(300, 1))) == {}
    error = capsys.readouterr().err
    assert f"{tmp_path}/drift cannot be written (File exists): choose another --output" in error


def test_damaged_objects_are_said_and_the_rest_is_compared(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path, *(known_log(150, seed) for seed in (1, 2, 3)))
    cut, empty, whole = sorted(log.rglob("*.gz"))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    empty.write_bytes(b"")
    content = report(log)
    rows = gzip.decompress(whole.read_bytes()).count(b"\n") - 1
    assert rows == 150 < content["pictures"] < 300
    assert (
        content["notes"][0]
        == "2 lines or objects of the log are cut off or damaged, and lack records."
    )
    assert content["notes"][0] in capsys.readouterr().out


def test_two_models_in_a_log_are_told_apart(report: Report, tmp_path: Path) -> None:
    log = write_log(tmp_path, known_log(120, 1), known_log(150, 2, model="model-0"))
    content = report(log)
    assert content["pictures"] == 120
    assert content["notes"] == [
        "150 images were classified by other models (model-0) and are left out."
    ]


def test_clocks_that_go_backwards_lose_no_record(report: Report, tmp_path: Path) -> None:
    first, second = known_log(150, 1), known_log(150, 2)
    backwards = replace(second, time=second.time[::-1] - 3600)
    (window,) = report(write_log(tmp_path, first, backwards))["windows"]
    assert window["pictures"] == 300
    assert window["start"] < window["end"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nothing", "holds no prediction log: name the folder of 'eurosat serve --log_url'"),
        ("foreign", "holds 1 other files and no prediction log"),
        ("other", "holds predictions of model-0, and the reference belongs to model-1"),
        ("purged", "the log holds no usable predictions of model-1"),
        (
            "empty",
            "no usable predictions of model-1; 1 lines or objects of the log are",
        ),
    ],
)
def test_a_log_without_predictions_of_the_model_is_refused(
    content: str,
    message: str,
    report: Report,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = tmp_path / "log"
    match content:
        case "foreign":
            log.mkdir()
            (log / "access.log").write_text("GET / 200\n")
        case "other":
            write_log(tmp_path, known_log(100, 1, model="model-0"))
        case "purged":
            write_log(tmp_path, known_log(100, 1))
            purge(str(log), before=4e9)
        case "empty":
            write_log(tmp_path, known_log(100, 1))
            (path,) = log.rglob("*.gz")
            path.write_bytes(b"")
    assert report(log) == {}
    assert message in capsys.readouterr().err


def test_a_bucket_without_rights_is_named(
    report: Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gcsfs")
    with forbidden_bucket() as emulator:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
        assert report("gs://bucket/log") == {}
    (message,) = capsys.readouterr().err.splitlines()
    assert "does not have storage.objects.list access" in message
