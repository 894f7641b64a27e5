"""What the service hands its predictions to."""

import logging
import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from eurosat.monitoring.log.records import Header, Record, to_bytes
from eurosat.monitoring.log.settings import LogSettings
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.writer import Writer
from eurosat.monitoring.observation import Observation

_log = logging.getLogger(__name__)

_EMBEDDINGS_AT_ONCE = 500
_EMBEDDINGS_AN_HOUR = 500
"""A burst and a rate of embeddings; together at most 1,000 in any hour.

The burst is enough for the first windows of drift (300 requests each).
"""

Rows = npt.NDArray[np.float32]


class Allowance:
    """Allows a burst of events and a rate of events after it."""

    def __init__(self, burst: float, per_hour: float) -> None:
        """Start with a whole burst."""
        self._burst = burst
        self._rate = per_hour / 3600
        self._left = burst
        self._at = time.monotonic()

    def take(self) -> bool:
        """Return whether an event is allowed now, and count the event if so."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * self._rate, self._burst)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Recorder:
    """Makes the records of one API process, and never fails or delays a prediction.

    A record has no address, key, file name, coordinates or name of the caller's program, and no
    id that the caller made.
    """

    def __init__(self, spool: Spool, header: Header, settings: LogSettings, processes: int) -> None:
        """Describe a recorder; the first record opens a segment.

        Args:
            spool: The spool.
            header: The model's version, and the names of classes and input statistics.
            settings: The log's settings.
            processes: Number of API processes, which share the allowance of embeddings.
        """
        self._model = header.model
        self._writer = Writer(spool, header, seconds=settings.seconds)
        self._embeddings = Allowance(
            _EMBEDDINGS_AT_ONCE / processes, _EMBEDDINGS_AN_HOUR / processes
        )

    def record(
        self,
        *,
        id: str,
        route: str,
        started: float,
        observations: Sequence[Observation],
    ) -> None:
        """Record the predictions of one request; an error is logged and counted, not raised.

        Args:
            id: The request's id, which the service made.
            route: Path of the route.
            started: Start of the request, by `time.perf_counter`.
            observations: The observation of every image.
        """
        try:
            image: int | None = None
            embedding: bytes | None = None
            if observations[0].features is not None and self._embeddings.take():
                image = random.randrange(len(observations))
                features = observations[image].features
                assert features is not None
                embedding = to_bytes(_finite_half(features[0]), "<f2")
            scores = [observation.ood_score for observation in observations]
            self._writer.write(
                Record(
                    id=id,
                    time=time.time(),
                    model=self._model,
                    route=route,
                    latency=round(time.perf_counter() - started, 6),
                    n=len(observations),
                    statistics=_means([observation.statistics for observation in observations]),
                    probabilities=_means(
                        [observation.probabilities for observation in observations]
                    ),
                    ood=None if None in scores else to_bytes(np.asarray(scores, np.float32)),
                    embedded=image,
                    embedding=embedding,
                )
            )
        except Exception:
            self._writer.count_dropped()
            _log.exception("request %s is answered, but the prediction log drops it", id)

    def close_if_old(self) -> None:
        """Close the segment if its records are due for the upload."""
        self._writer.close_if_old()

    def close(self) -> None:
        """Close the segment at the end of the process."""
        self._writer.close()


def _means(rows: Sequence[Rows]) -> bytes:
    """Each image's mean over its patches, as bytes of shape (images, columns)."""
    if all(len(image) == 1 for image in rows):
        return to_bytes(rows[0] if len(rows) == 1 else np.concatenate(rows))
    return to_bytes(np.stack([image.mean(axis=0) for image in rows]))


def _finite_half(features: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    """Round features to float16, whose largest number is 65,504."""
    limit = float(np.finfo(np.float16).max)
    rounded: npt.NDArray[np.float16] = np.clip(features, -limit, limit).astype(np.float16)
    return rounded
