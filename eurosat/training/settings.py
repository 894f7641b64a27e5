"""The whole configuration that a trainer verb would run with, without running it."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import Any

import yaml

from eurosat.errors import SettingsError
from eurosat.training.cli import EuroSATCLI


def resolve_settings(arguments: Sequence[str], what: str) -> dict[str, Any]:
    """Ask the command line for the whole configuration that some arguments would run with.

    Args:
        arguments: A trainer verb and its options.
        what: What they are, for the error.

    Returns:
        What ``--print_config`` prints.

    Raises:
        SettingsError: The command line refuses them.
    """
    shown, refused = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(shown),
            contextlib.redirect_stderr(refused),
            warnings.catch_warnings(),
        ):
            # Lightning compares the arguments with those of the verb that is really running.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            EuroSATCLI([*arguments, "--print_config"])
    except SystemExit as ended:  # how argparse ends, well or not
        if ended.code:
            reason = " ".join(refused.getvalue().rpartition("error: ")[2].split())
            raise SettingsError(f"'eurosat {arguments[0]}' refuses {what}: {reason}") from None
    settings: dict[str, Any] = yaml.safe_load(shown.getvalue())
    return settings
