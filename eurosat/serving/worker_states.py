"""The states of the workers, in memory that all processes share."""

import multiprocessing
from collections.abc import Sequence

from litserve.utils import WorkerSetupStatus

from eurosat.serving.heartbeat import Heartbeats

_STATES = (
    WorkerSetupStatus.STARTING,
    WorkerSetupStatus.READY,
    WorkerSetupStatus.ERROR,
    WorkerSetupStatus.FINISHED,
)


class WorkerStates:
    """The state and the heartbeat of every worker.

    LitServe keeps the states in a managing process, and shared memory needs no such process.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Set every worker's state to "starting".

        Args:
            names: LitServe's names of the workers.
        """
        self._names = list(names)
        # Workers are spawned, and a spawned process accepts only memory of the spawn context.
        # The memory has no lock, which a stopped worker could hold for ever.
        self._states = multiprocessing.get_context("spawn").RawArray("b", len(self._names))
        self.heartbeats = Heartbeats(len(self._names))

    def __len__(self) -> int:
        """Return the number of workers."""
        return len(self._names)

    def __setitem__(self, name: str, state: str) -> None:
        """Set a worker's state; LitServe sets "starting" before it starts the worker."""
        number = self._names.index(name)
        self._states[number] = _STATES.index(state)
        if state == WorkerSetupStatus.STARTING:
            self.heartbeats.start(number)

    def values(self) -> list[str]:
        """Return every worker's state, in the order of the workers' numbers."""
        return [_STATES[number] for number in self._states[:]]
