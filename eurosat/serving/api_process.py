"""The server of an API process."""

import contextlib
import signal
from collections.abc import Iterator

import uvicorn

from eurosat.serving.stop import take_signals


class ApiServer(uvicorn.Server):
    """uvicorn's server, which a second signal does not hurry."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals until the process ends.

        The main process answers Ctrl-C with SIGTERM to this process.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.handle_exit)
        take_signals()
        yield
