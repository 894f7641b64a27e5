"""The resolved configuration of a trainer verb, without a run."""

import contextlib
import functools
import io
from collections.abc import Sequence
from typing import Any

import yaml
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from eurosat.errors import SettingsError
from eurosat.training.cli import EuroSATCLI


class _Built(Exception):  # noqa: N818  # no error
    """Carries the parser out of LightningCLI, which would parse and run."""

    def __init__(self, parser: LightningArgumentParser) -> None:
        super().__init__()
        self.parser = parser


class _ParserOnly(EuroSATCLI):
    """The command line up to its parser."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        raise _Built(parser)


@functools.cache
def _parser(verb: str) -> LightningArgumentParser:
    """Build the parser of a verb once: a sweep or a search parses dozens of command lines."""
    try:
        _ParserOnly([verb])
    except _Built as built:
        return built.parser
    raise AssertionError("LightningCLI parses with another method")


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
        ):
            _parser(arguments[0]).parse_args([*arguments, "--print_config"])
    except SystemExit as ended:  # argparse exits after success and after an error
        if ended.code:
            reason = " ".join(refused.getvalue().rpartition("error: ")[2].split())
            raise SettingsError(f"'eurosat {arguments[0]}' refuses {what}: {reason}") from None
    settings: dict[str, Any] = yaml.safe_load(shown.getvalue())
    return settings
