"""The logs of the command line, on a terminal, in a pipe and in a run's folder."""

import json
import logging
import os
import pty
import re
import subprocess
import sys
import termios
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning
import pytest
from lightning.pytorch.callbacks import Callback

from eurosat.cli import main
from eurosat.logs import Logs
from tests.conftest import SMALL_MODEL, TINY, Run

PLAIN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) [\w.]+: .+")


def records(run_folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_folder / "run.jsonl").read_text().splitlines()]


def events(run_folder: Path, name: str) -> list[dict[str, Any]]:
    return [record for record in records(run_folder) if record.get("event") == name]


def command(root: Path, store_root: Path, *arguments: str) -> list[str]:
    start = [sys.executable, "-m", "eurosat", "fit", *TINY, *SMALL_MODEL]
    return [*start, f"--data.root={store_root}", f"--output_root={root}", *arguments]


def test_the_file_of_a_run_tells_its_story_in_fields(trained: Run) -> None:
    for record in records(trained.folder):
        assert list(record)[:5] == ["time", "level", "logger", "message", "rank"]
        assert datetime.fromisoformat(record["time"]).tzinfo == UTC
        assert record["rank"] == 0
    story = [record["event"] for record in records(trained.folder) if "event" in record]
    story = [event for event in story if event != "warning"]
    assert story == ["command", "data", "model", "epoch", "epoch", "report", "test"]
    card = trained.json("run.json")
    (data,) = events(trained.folder, "data")
    assert data["fingerprint"] == card["data"]["fingerprint"]
    assert data["split"]["train"] == card["split"]["train"]
    (model,) = events(trained.folder, "model")
    assert model["backbone"] == "patchnet"
    assert model["parameters"] > 1000
    for number, epoch in enumerate(events(trained.folder, "epoch")):
        assert epoch["epoch"] == number
        assert {"train/loss", "val/accuracy"} <= epoch["metrics"].keys()
        assert f"val/accuracy {epoch['metrics']['val/accuracy']:.4f}" in epoch["message"]
    (test,) = events(trained.folder, "test")
    metrics = trained.json("metrics.json")
    assert test["metrics"]["test/accuracy"] == pytest.approx(metrics["accuracy"])
    assert not (trained.folder / "run.log").exists()


@pytest.mark.process
def test_a_pipe_gets_plain_lines_and_each_once(tmp_path: Path, store_root: Path) -> None:
    shown = subprocess.run(
        command(tmp_path, store_root), capture_output=True, text=True, check=True
    ).stderr.splitlines()
    assert [line for line in shown if not PLAIN.fullmatch(line)] == []
    assert len(shown) == len({line.partition(" ")[2].partition(" ")[2] for line in shown})
    for words in ("Seed set to 42", "`Trainer.fit` stopped", "epoch 0: train/loss", "test: test/"):
        assert sum(words in line for line in shown) == 1


@pytest.mark.process
@pytest.mark.parametrize("bar", ["RichProgressBar", "TQDMProgressBar"])
def test_a_terminal_gets_colours_and_lines_above_the_progress_bar(
    bar: str, tmp_path: Path, store_root: Path
) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 300))
    arguments = [*command(tmp_path, store_root), "--trainer.enable_progress_bar=true"]
    arguments += [f"--trainer.callbacks=lightning.pytorch.callbacks.{bar}"]
    environment = os.environ | {"TERM": "xterm-256color"}
    process = subprocess.Popen(arguments, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    output = b""
    while chunk := _read(ours):
        output += chunk
    os.close(ours)
    assert process.wait() == 0
    text = output.decode()
    assert "\x1b[34mINFO" in text  # blue
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)
    (epoch,) = (line for line in text.split("\n") if "epoch 0: " in line)
    # What a terminal shows of a line is what follows the last return to its beginning.
    visible = epoch.rstrip("\r").split("\r")[-1]
    assert re.match(r"(\d\d:\d\d:\d\d| {8}) INFO +epoch 0: train/loss", visible)
    assert text.count("`Trainer.fit` stopped") == 1


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""


def test_a_library_with_a_handler_of_its_own_is_heard_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As huggingface_hub, datasets and torchmetrics attach one when they are imported."""
    library = logging.getLogger("library_with_handler")
    own, other = logging.StreamHandler(sys.stderr), logging.NullHandler()
    with Logs():
        library.addHandler(own)
        library.addHandler(other)
        library.getChild("download").warning("retrying in %d s", 1)
        assert library.handlers == [other]
    shown = capsys.readouterr().err
    assert shown.count("retrying in 1 s") == 1
    assert PLAIN.search(shown)
    assert set(library.handlers) == {own, other}
    library.handlers.clear()


@pytest.mark.parametrize(
    ("level", "shown", "hidden"),
    [
        ("debug", "saving a checkpoint of epoch 0", "hook: on_train_start"),
        ("warning", "", " INFO "),
    ],
)
def test_the_level_is_the_console_s_and_the_file_is_complete(
    level: str, shown: str, hidden: str, run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = run("fit", f"--log_level={level}")
    error = capsys.readouterr().err
    assert shown in error
    assert hidden not in error
    assert len(events(fitted.folder, "epoch")) == 1
    assert bool(events(fitted.folder, "checkpoint")) == (level == "debug")


def test_a_mistake_is_in_the_file_with_its_traceback_and_on_the_console_without(
    tmp_path: Path, store_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*TINY, *SMALL_MODEL, f"--data.root={store_root}", f"--output_root={tmp_path}"]
    assert main(["fit", *arguments, "--data.split=source", "--experiment=mistake"]) == 2
    (folder,) = tmp_path.glob("mistake/*")
    (failure,) = events(folder, "failure")
    assert failure["level"] == "ERROR"
    assert failure["traceback"].startswith("Traceback")
    assert "SplitError" in failure["traceback"]
    error = capsys.readouterr().err
    assert error.count("no splits of its own") == 1
    assert "Traceback" not in error


@pytest.mark.training
class Crash(Callback):
    """An error that is nobody's setting."""

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        raise ArithmeticError("the sum is odd")


def test_a_crash_is_in_the_file_with_its_traceback(tmp_path: Path, store_root: Path) -> None:
    arguments = [*TINY, *SMALL_MODEL, f"--data.root={store_root}", f"--output_root={tmp_path}"]
    arguments += [f"--trainer.callbacks=[{{class_path: {__name__}.Crash}}]"]
    with pytest.raises(ArithmeticError, match="the sum is odd"):
        main(["fit", *arguments, "--experiment=crash"])
    (folder,) = tmp_path.glob("crash/*")
    (failure,) = events(folder, "failure")
    assert "the sum is odd" in failure["traceback"].splitlines()[-1]
    assert events(folder, "command")


def test_warnings_of_python_reach_console_and_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Logs() as logs:
        logs.write_to(tmp_path / "run.jsonl")
        warnings.warn("clouds ahead", UserWarning, stacklevel=1)
    (record,) = records(tmp_path)
    assert record["level"] == "WARNING"
    assert record["category"] == "UserWarning"
    assert record["file"] == __file__
    assert capsys.readouterr().err.count("UserWarning: clouds ahead") == 1


def test_other_processes_than_the_first_say_only_what_is_wrong_and_who_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("eurosat.test")
    with Logs("debug", rank=lambda: 3) as logs:
        logs.write_to(tmp_path / "run.jsonl")
        log.info("all is well")
        log.warning("all is not well")
    (record,) = records(tmp_path)
    assert record["rank"] == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING eurosat.test: rank 3: all is not well")


_WRITE_LONG_LINES = """
import logging, sys
from pathlib import Path
from eurosat.logs import Logs

path, rank = Path(sys.argv[1]), int(sys.argv[2])
with Logs("error", rank=lambda: rank) as logs:
    logs.write_to(path)
    for _ in range(100):
        logging.getLogger("eurosat.test").warning(str(rank) * 30_000)
"""


@pytest.mark.process
def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    commands = [[sys.executable, "-c", _WRITE_LONG_LINES, str(path), rank] for rank in "12"]
    for process in [subprocess.Popen(command) for command in commands]:
        assert process.wait() == 0
    found = records(tmp_path)
    assert len(found) == 200
    for record in found:
        assert record["message"] == str(record["rank"]) * 30_000


def test_logging_is_left_as_it_was_found(tmp_path: Path) -> None:
    loggers = [logging.getLogger(name) for name in ("", "eurosat", "lightning.pytorch")]

    def state() -> list[Any]:
        return [(x.level, x.propagate, list(x.handlers)) for x in loggers] + [warnings.showwarning]

    before = state()
    with Logs("debug") as logs:
        logs.write_to(tmp_path / "run.jsonl")
        assert state() != before
    assert state() == before
