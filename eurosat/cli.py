"""The command line: trainer verbs by LightningCLI, tool verbs by jsonargparse.

Heavy imports wait inside the functions, so that ``eurosat --help`` answers at once.
"""

import argparse
import importlib
import sys
import warnings
from collections.abc import Sequence

from eurosat import __version__
from eurosat.errors import EuroSATError

TRAINER_VERBS = {
    "fit": "train a classifier, then test its best checkpoint",
    "validate": "measure a checkpoint on the validation part",
    "test": "measure a checkpoint on the test part and draw the report",
    "predict": "classify image files or folders into a CSV file",
}
TOOL_VERBS = {
    "prepare": "find, check and decode a data set, and show what it holds",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: The arguments; those of the process if not given.

    Returns:
        The exit code: 0 if all went well, 2 for a mistake in usage or data.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    verb = _top_level_parser().parse_args(arguments[:1]).verb
    try:
        if verb in TRAINER_VERBS:
            # torch 2.15 warns of a name that Lightning 2.6 still uses; nothing for users to do.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            from eurosat.training_cli import EuroSATCLI

            EuroSATCLI(arguments)
        else:
            from jsonargparse import auto_cli

            tool = getattr(importlib.import_module(f"eurosat.tools.{verb}"), verb)
            auto_cli(tool, args=arguments[1:], as_positional=False, prog=f"eurosat {verb}")
    except EuroSATError as error:
        print(f"eurosat {verb}: error: {error}", file=sys.stderr)
        return 2
    return 0


def _top_level_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eurosat",
        description="Land-use classification of Sentinel-2 patches, from raw data to a service.",
        epilog="'eurosat VERB --help' shows a verb's options. Start with: "
        "eurosat fit --config configs/quickstart.yaml",
    )
    parser.add_argument("--version", action="version", version=f"eurosat {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    for name, line in (TRAINER_VERBS | TOOL_VERBS).items():
        verbs.add_parser(name, help=line, add_help=False)
    return parser
