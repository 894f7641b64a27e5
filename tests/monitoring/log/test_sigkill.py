"""SIGKILL of writers and uploaders at random moments, more often than a service can restart.

The test of a whole service is in ``tests/serving/test_prediction_log.py``. Here the processes start
within milliseconds and are busy with the spool only, so that the signal comes between any two
system calls: between a rename and an upload, within an upload, before a segment is deleted.
"""

import logging
import multiprocessing
import os
import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from eurosat.monitoring.log.reader import read_log
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.uploader import Uploader
from eurosat.monitoring.log.writer import Writer
from tests.monitoring.log.conftest import HEADER, record

KILLS = [20, pytest.param(200, marks=pytest.mark.long)]


def write(spool: Spool, answers: Path) -> None:
    """Write records, and note each id after the record, as an answer would tell it."""
    writer = Writer(spool, HEADER, seconds=0.05)
    told = os.open(answers, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        id = uuid.uuid4().hex
        if writer.write(record(id)):
            os.write(told, f"{id}\n".encode())
        writer.close_if_old()
        time.sleep(0.0005)


def upload(spool: Spool, url: str) -> None:
    """Upload without a pause."""
    logging.disable()
    uploader = Uploader(spool, url)
    while True:
        uploader.upload()


@pytest.mark.process
@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_every_record_is_uploaded_once_whoever_is_killed(
    kind: str, kills: int, spool: Spool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = str(tmp_path / "log") if kind == "folder" else request.getfixturevalue("bucket")
    seed = int(os.environ.get("EUROSAT_CHAOS_SEED", random.SystemRandom().randrange(10**6)))
    print(f"EUROSAT_CHAOS_SEED={seed}")
    chance = random.Random(seed)
    fork = multiprocessing.get_context("fork")

    def start(role: Callable[..., None], argument: object) -> multiprocessing.process.BaseProcess:
        process = fork.Process(target=role, args=(spool, argument), daemon=True)
        process.start()
        return process

    roles = [(write, tmp_path / "answers"), (upload, url)] * 2
    processes = [start(*role) for role in roles]
    for _ in range(kills):
        time.sleep(chance.uniform(0.01, 0.25))
        number = chance.randrange(len(roles))
        processes[number].kill()
        processes[number].join()
        processes[number] = start(*roles[number])
    for process in processes:
        process.kill()
        process.join()
    assert Uploader(spool, url).upload()
    assert spool.usage().files == 0
    answered = (tmp_path / "answers").read_text("utf-8").split()
    log = read_log(url)
    print(f"{len(answered)} answers, {log.records} records, {log.torn} torn lines")
    assert len(answered) > 10 * kills
    assert set(answered) <= set(log.id.tolist())
    assert len(log) == log.records == len(set(log.id.tolist()))
    assert (log.duplicates, log.dropped, log.foreign) == (0, 0, 0)
