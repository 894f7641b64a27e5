"""Transport of requests to the workers and of answers back, over ZeroMQ sockets.

LitServe keeps its queues in a third process and polls them, so that every request costs four
transfers to or from the third process. Here an API process sends requests directly to the workers,
in turn, and each worker sends its answers directly back. The unanswered requests of a worker that
exits are lost, but no lock stays behind; `eurosat.serving.dispatcher` sends these requests again.
"""

import os
import pickle
from pathlib import Path
from queue import Empty
from typing import Any

import zmq
import zmq.asyncio
from litserve.transport.base import MessageTransport

from eurosat.operating_system import socket_address


class NoWorkerError(Exception):
    """No worker is connected."""


class RequestChannel:
    """Requests from every API process to every worker.

    The main process creates the channel and passes it to the other processes. Each process opens
    its own sockets when it first uses the channel.
    """

    def __init__(self, folder: Path, api_servers: int) -> None:
        """Store the addresses; no socket is opened yet.

        Args:
            folder: A private folder for the sockets.
            api_servers: Number of API processes.
        """
        self._addresses = [socket_address(folder / f"requests-{i}") for i in range(api_servers)]
        self._owner: int | None = None
        self._socket: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the addresses only, because sockets belong to the process that opened them."""
        return {"_addresses": self._addresses, "_owner": None, "_socket": None}

    def listen(self, api_server: int) -> None:
        """Open the sending socket, once, in API process number ``api_server``."""
        self._socket = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.bind(self._addresses[api_server])
        self._owner = os.getpid()

    @property
    def connected(self) -> bool:
        """Whether a worker is connected; True only in the process that called `listen`."""
        return self._owner == os.getpid() and bool(self._socket.get(zmq.EVENTS) & zmq.POLLOUT)

    def put(self, item: tuple[Any, ...]) -> None:
        """Send a request to the next worker.

        Raises:
            NoWorkerError: No worker is connected.
        """
        try:
            self._socket.send(pickle.dumps(item, protocol=5), zmq.NOBLOCK)
        except zmq.Again as error:
            raise NoWorkerError from error

    def get(self, timeout: float) -> Any:
        """Receive a request, in a worker.

        Args:
            timeout: Seconds to wait.

        Raises:
            Empty: No request came in time.
        """
        if self._owner != os.getpid():
            self._socket = zmq.Context.instance().socket(zmq.PULL)
            for address in self._addresses:
                self._socket.connect(address)
            self._owner = os.getpid()
        if not self._socket.poll(int(timeout * 1000)):
            raise Empty
        return pickle.loads(self._socket.recv())

    def get_nowait(self) -> Any:
        """Receive a request that is already queued, or raise `Empty`."""
        return self.get(timeout=0)


class AnswerTransport(MessageTransport):  # type: ignore[misc]  # LitServe ships no types
    """Answers from every worker to the API process that sent the request."""

    def __init__(self, folder: Path, api_servers: int) -> None:
        """Store the addresses; the arguments are those of `RequestChannel`."""
        self._addresses = [socket_address(folder / f"answers-{i}") for i in range(api_servers)]
        self._sockets: dict[tuple[int, int], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the addresses only, because sockets belong to the process that opened them."""
        return {"_addresses": self._addresses, "_sockets": {}}

    def send(self, item: Any, consumer_id: int) -> None:
        """Send an answer to API process number ``consumer_id``."""
        key = (os.getpid(), consumer_id)
        if key not in self._sockets:
            self._sockets[key] = zmq.Context.instance().socket(zmq.PUSH)
            self._sockets[key].connect(self._addresses[consumer_id])
        self._sockets[key].send(pickle.dumps(item, protocol=5))

    async def areceive(
        self, consumer_id: int, timeout: float | None = None, block: bool = True
    ) -> Any:
        """Receive the next answer, in API process number ``consumer_id``."""
        key = (os.getpid(), consumer_id)
        if key not in self._sockets:
            self._sockets[key] = zmq.asyncio.Context.instance().socket(zmq.PULL)
            self._sockets[key].bind(self._addresses[consumer_id])
        return pickle.loads(await self._sockets[key].recv())

    def close(self, send_sentinel: bool = True) -> None:
        """Do nothing, because the main process opens no socket."""
