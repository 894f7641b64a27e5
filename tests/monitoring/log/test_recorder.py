"""What the recorder writes, and how many embeddings it allows."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurosat.monitoring.log.reader import PredictionLog, read_log
from eurosat.monitoring.log.recorder import Allowance, Recorder
from eurosat.monitoring.log.settings import LogSettings
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.uploader import Uploader
from eurosat.monitoring.observation import Observation
from tests.monitoring.log.conftest import HEADER


@pytest.fixture
def recorder(spool: Spool, tmp_path: Path) -> Recorder:
    settings = LogSettings(str(tmp_path / "log"), spool.folder, spool.max_bytes, 30)
    return Recorder(spool, HEADER, settings, processes=1)


def read(recorder: Recorder, spool: Spool, folder: Path) -> PredictionLog:
    recorder.close()
    assert Uploader(spool, str(folder)).upload()
    return read_log(str(folder))


def rows(*values: list[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_an_image_of_tiles_has_their_mean_and_the_features_of_one_patch(
    recorder: Recorder, spool: Spool, tmp_path: Path
) -> None:
    recorder.record(
        id="1",
        route="/predict",
        started=time.perf_counter() - 0.5,
        observations=[
            Observation(
                probabilities=rows([0.25, 0.75], [0.75, 0.25]),
                statistics=rows([1, 2], [3, 4]),
                features=rows([1, 2, 1e6], [3, 4, 5]),
                ood=np.array([0.125, 0.375], np.float32),
            ),
            Observation(
                probabilities=rows([0, 1]),
                statistics=rows([5, 6]),
                features=rows([1, 2, 1e6]),
                ood=np.array([0.75], np.float32),
            ),
        ],
    )
    log = read(recorder, spool, tmp_path)
    assert log.statistics.tolist() == [[2, 3], [5, 6]]
    assert log.probabilities.tolist() == [[0.5, 0.5], [0, 1]]
    assert log.ood.tolist() == [0.25, 0.75]
    assert 0.5 <= log.latency[0] < 5
    assert sorted(log.embedded.tolist()) == [-1, 0]
    assert log.embedding.tolist() == [[1, 2, 65504]]  # the largest float16


def test_at_most_1000_embeddings_an_hour_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    allowance = Allowance(500, 500)
    taken = []
    for second in range(4 * 3600):
        now = float(second)
        taken.append(allowance.take())
    assert all(taken[:500])
    hours = [sum(taken[start : start + 3600]) for start in range(0, 3 * 3600, 60)]
    assert max(hours) <= 1000
    assert min(hours) >= 499


def test_an_error_is_logged_and_counted_and_not_raised(
    recorder: Recorder, spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments: dict[str, Any] = {"route": "/predict", "started": 0.0}
    good = Observation(probabilities=rows([0, 1]), statistics=rows([1, 2]))
    with caplog.at_level(logging.ERROR):
        recorder.record(id="1", observations=[], **arguments)
    assert "request 1 is answered, but the prediction log drops it" in caplog.text
    recorder.record(id="2", observations=[good], **arguments)
    log = read(recorder, spool, tmp_path)
    assert (log.id.tolist(), log.dropped) == (["2"], 1)
