"""The resolved configuration of a trainer verb, without a run."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import Any

import yaml

from eurosat.errors import SettingsError
from eurosat.training.cli import EuroSATCLI


def resolve_settings(arguments: Sequence[str], what: str) -> dict[str, Any]:
    """Resolve the arguments of a trainer verb to the whole configuration of the run.

    Args:
        arguments: A trainer verb and the options of the verb.
        what: Description of the arguments for the error message.

    Returns:
        The configuration that ``--print_config`` prints.

    Raises:
        SettingsError: The command line refuses the arguments.
    """
    shown, refused = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(shown),
            contextlib.redirect_stderr(refused),
            warnings.catch_warnings(),
        ):
            # Lightning warns about explicit arguments if sys.argv contains arguments too.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            EuroSATCLI([*arguments, "--print_config"])
    except SystemExit as ended:  # argparse exits after success and after an error
        if ended.code:
            reason = " ".join(refused.getvalue().rpartition("error: ")[2].split())
            raise SettingsError(f"'eurosat {arguments[0]}' refuses {what}: {reason}") from None
    settings: dict[str, Any] = yaml.safe_load(shown.getvalue())
    return settings
