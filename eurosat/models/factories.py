"""Factories of optimisers and schedules, which a copy of a module does not copy."""

from collections.abc import Callable
from typing import Any


class SharedFactory:
    """A factory that all copies of the module share.

    The factories of the command line refer to the command line, and thus to the trainer and the
    data. The moving average copies the module, and the copy must not include trainer and data.
    """

    def __init__(self, factory: Callable[..., Any]) -> None:
        """Wrap a factory."""
        self.factory = factory

    def __call__(self, *arguments: Any) -> Any:
        """Call the factory."""
        return self.factory(*arguments)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedFactory":
        """Return this object itself."""
        return self
