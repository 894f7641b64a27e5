"""References and prediction logs of images whose distributions are known."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from eurosat.inference.card import ModelCard
from eurosat.monitoring.log.reader import PredictionLog
from eurosat.monitoring.log.records import Header, Record, to_bytes
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.uploader import Uploader
from eurosat.monitoring.log.writer import Writer
from eurosat.monitoring.reference import Reference, make_reference
from eurosat.monitoring.statistics import statistic_names

BANDS = ("R", "G", "B")
CLASSES = ("Forest", "Highway", "Pasture", "River")
NAMES = statistic_names(BANDS)
MODEL = "model-1"
FEATURES = 16
START = 1_790_000_000.0


def draw(count: int, seed: int, *, shift: float = 0.0, labels: Any = None) -> dict[str, Any]:
    """Draw labels, statistics, probabilities and features of independent images."""
    generator = np.random.default_rng(seed)
    if labels is None:
        labels = generator.integers(len(CLASSES), size=count)
    centres = np.random.default_rng(99).normal(size=(len(CLASSES), FEATURES))
    features = centres[labels] + generator.normal(size=(count, FEATURES))
    statistics = 0.5 * features[:, : len(NAMES)] + generator.normal(size=(count, len(NAMES)))
    statistics += 10 + shift  # standard deviations are positive
    logits = 3.0 * np.eye(len(CLASSES))[labels] + generator.normal(size=(count, len(CLASSES)))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return {
        "labels": labels.astype(np.int64),
        "statistics": statistics.astype(np.float32),
        "probabilities": probabilities.astype(np.float32),
        "features": features.astype(np.float32),
    }


@cache
def known_reference(count: int = 1000, seed: int = 0, version: str = MODEL) -> Reference:
    """A reference of independent images."""
    card = ModelCard(
        version=version,
        classes=CLASSES,
        bands=BANDS,
        patch_size=64,
        backbone="patchnet",
        format="onnx",
        checkpoint="0" * 64,
    )
    return make_reference(card, **draw(count, seed))


def known_log(count: int, seed: int, *, model: str = MODEL, **settings: Any) -> PredictionLog:
    """A log of requests with one image each, one a second."""
    drawn = draw(count, seed, **settings)
    return PredictionLog(
        id=np.array([f"{seed}-{index:06d}" for index in range(count)], np.str_),
        index=np.zeros(count, np.int64),
        time=START + np.arange(count, dtype=np.float64),
        model=np.array([model] * count, np.str_),
        route=np.array(["/predict"] * count, np.str_),
        latency=np.full(count, 0.01),
        statistics=drawn["statistics"],
        probabilities=drawn["probabilities"],
        ood=np.random.default_rng(seed).random(count).astype(np.float32),
        embedding=drawn["features"],
        embedded=np.arange(count),
        classes={model: CLASSES},
        statistic_names={model: NAMES},
        records=count,
    )


def columns(log: PredictionLog) -> dict[str, Any]:
    """The columns of a log that have a row for each image, by name."""
    return {
        field.name: value
        for field in fields(log)
        if isinstance(value := getattr(log, field.name), np.ndarray) and field.name != "embedding"
    }


def chosen(log: PredictionLog, rows: Any) -> PredictionLog:
    """Some rows of a log."""
    return replace(log, **{name: values[rows] for name, values in columns(log).items()})


def appended(logs: Sequence[PredictionLog]) -> PredictionLog:
    """Several logs, with their times."""
    joined = {
        name: np.concatenate([getattr(log, name) for log in logs]) for name in columns(logs[0])
    }
    before = np.cumsum([0, *(len(log.embedding) for log in logs)])[:-1]
    embedded = [
        np.where(log.embedded < 0, -1, log.embedded + count)
        for log, count in zip(logs, before, strict=True)
    ]
    return PredictionLog(
        **joined | {"embedded": np.concatenate(embedded)},
        embedding=np.concatenate([log.embedding for log in logs]),
        classes={name: names for log in logs for name, names in log.classes.items()},
        statistic_names={
            name: names for log in logs for name, names in log.statistic_names.items()
        },
        records=sum(log.records for log in logs),
    )


def joined(*logs: PredictionLog) -> PredictionLog:
    """Several logs, one after the other in time."""
    shifted, start = [], START
    for log in logs:
        shifted.append(replace(log, time=log.time - log.time.min() + start))
        start = float(shifted[-1].time.max()) + 1
    return appended(shifted)


def write_log(folder: Path, *logs: PredictionLog) -> Path:
    """Write logs as services do, a segment for each log, and return the log's folder."""
    spool = Spool(folder / "spool", 2**26)
    spool.create()
    for log in logs:
        (model,) = log.classes
        header = Header(model=model, classes=CLASSES, statistics=NAMES)
        writer = Writer(spool, header, seconds=30)
        for row in range(len(log)):
            written = writer.write(
                Record(
                    id=str(log.id[row]),
                    time=float(log.time[row]),
                    model=model,
                    route="/predict",
                    latency=0.01,
                    n=1,
                    statistics=to_bytes(log.statistics[row]),
                    probabilities=to_bytes(log.probabilities[row]),
                    ood=to_bytes(log.ood[row : row + 1]),
                    embedded=0,
                    embedding=to_bytes(log.embedding[row], "<f2"),
                )
            )
            assert written
        writer.close()
    assert Uploader(spool, str(folder / "log")).upload()
    return folder / "log"
