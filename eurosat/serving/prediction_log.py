"""The prediction log in the processes of the service."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from eurosat.inference.card import ModelCard
from eurosat.monitoring.log import counts
from eurosat.monitoring.log.recorder import Recorder
from eurosat.monitoring.log.records import Header
from eurosat.monitoring.log.settings import LogSettings
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.store import open_store
from eurosat.monitoring.log.uploader import Uploader
from eurosat.monitoring.statistics import statistic_names

FINISH_SECONDS = 2.0
"""Time for the last upload; Cloud Run sends SIGKILL 10 s after SIGTERM, and requests get 6 s."""


class ServiceLog:
    """The recorder of the API processes, and the uploader of the background process."""

    def __init__(self, settings: LogSettings, card: ModelCard, api_servers: int) -> None:
        """Check the settings and prepare the spool; no thread starts yet.

        Args:
            settings: The log's settings.
            card: The model's card.
            api_servers: Number of API processes.

        Raises:
            PredictionLogError: The spool cannot be written, or the URL needs a missing package.
        """
        spool = Spool(settings.spool, settings.spool_bytes)
        spool.create()
        open_store(settings.url)  # fails at once if the URL is unknown
        header = Header(
            model=card.version, classes=card.classes, statistics=statistic_names(card.bands)
        )
        self.recorder = Recorder(spool, header, settings, api_servers)
        self._uploader = Uploader(spool, settings.url)

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Close old segments in an API process, and the last segment at the end."""

        async def close_old_segments() -> None:
            while True:
                await asyncio.sleep(1)
                self.recorder.close_if_old()

        closing = asyncio.create_task(close_old_segments())
        try:
            yield
        finally:
            closing.cancel()
            self.recorder.close()

    def start_upload(self) -> None:
        """Start the upload, in the background process."""
        counts.initialise()
        self._uploader.start()

    def finish_upload(self) -> None:
        """Upload what the API processes have left."""
        self._uploader.finish(FINISH_SECONDS)
