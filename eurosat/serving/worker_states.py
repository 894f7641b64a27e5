"""The states of the workers, in memory that all processes share."""

import multiprocessing
from collections.abc import Sequence

from litserve.utils import WorkerSetupStatus

_STATES = (
    WorkerSetupStatus.STARTING,
    WorkerSetupStatus.READY,
    WorkerSetupStatus.ERROR,
    WorkerSetupStatus.FINISHED,
)


class WorkerStates:
    """The state of every worker.

    LitServe keeps the states in a managing process, and shared memory needs no such process.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Set every worker's state to "starting".

        Args:
            names: LitServe's names of the workers.
        """
        self._names = list(names)
        # Workers are spawned, and a spawned process accepts only memory of the spawn context.
        self._states = multiprocessing.get_context("spawn").Array("b", len(self._names))

    def __len__(self) -> int:
        """Return the number of workers."""
        return len(self._names)

    def __setitem__(self, name: str, state: str) -> None:
        """Set a worker's state."""
        self._states[self._names.index(name)] = _STATES.index(state)

    def values(self) -> list[str]:
        """Return every worker's state, in the order of the workers' numbers."""
        return [_STATES[number] for number in self._states[:]]
