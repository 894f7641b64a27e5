"""Factories of optimisers and schedules, which a copy of a module does not copy."""

from collections.abc import Callable
from typing import Any

from eurosat.errors import SettingsError


class SharedFactory:
    """A factory that all copies of the module share.

    The factories of the command line refer to the command line, and thus to the trainer and the
    data. The moving average copies the module, and the copy must not include trainer and data.
    """

    def __init__(self, factory: Callable[..., Any]) -> None:
        """Wrap a factory."""
        self.factory = factory

    def __call__(self, *arguments: Any) -> Any:
        """Call the factory.

        Raises:
            SettingsError: The factory refuses its settings.
        """
        try:
            return self.factory(*arguments)
        except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
            raise SettingsError(
                f"the optimiser or the schedule refuses its settings ({type(error).__name__}: "
                f"{error}): correct --model.optimizer or --model.lr_scheduler"
            ) from error

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedFactory":
        """Return this object itself."""
        return self
