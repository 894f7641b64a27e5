"""The command line: trainer verbs by LightningCLI, tool verbs by jsonargparse.

Heavy imports wait inside the functions, so that ``eurosat --help`` answers at once.
"""

import argparse
import importlib
import inspect
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from eurosat import __version__
from eurosat.errors import EuroSATError

TRAINER_VERBS = {
    "fit": "train a classifier, then test its best checkpoint",
    "validate": "measure a checkpoint on the validation part",
    "test": "measure a checkpoint on the test part and draw the report",
    "predict": "classify image files or folders into a CSV file",
}
TOOL_VERBS = {
    "init": "lay out a project in an empty folder: configurations, pipeline, sweeps, studies",
    "prepare": "find, check and decode a data set, and show what it holds",
    "study": "train a grid of settings with several seeds, and compare them",
    "sweep": "search for good settings with W&B on every GPU of this machine",
    "report": "draw the figures and the report of finished runs anew",
    "export": "write a checkpoint in another format, such as ONNX, behind a parity gate",
    "gate": "compare a model with the one in use; exit 1 if it should not replace it",
    "promote": "register a model and put it into a stage, staging or production",
    "serve": "answer over HTTP with a model file, and show a page to try it",
    "classify": "ask a service for the classes of image files",
}
EXTRAS = {"export": "export", "promote": "pipeline", "serve": "serve"}
"""Optional dependencies that a verb needs; those not named need ``train``."""
EXTRAS_OF_PACKAGES = {"wandb": "track", "tensorboard": "tensorboard", "mlflow": "mlflow"}
"""Optional dependencies that an option needs, rather than a verb."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: The arguments; those of the process if not given.

    Returns:
        The exit code: 0 if all went well, 2 for a mistake in usage or data, 1 where a gate was
        not passed or a service could not go on.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    verb = _top_level_parser().parse_args(arguments[:1]).verb
    try:
        if verb in TRAINER_VERBS:
            # torch 2.15 warns of a name that Lightning 2.6 still uses; nothing for users to do.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            from eurosat.training.cli import run_trainer_verb

            run_trainer_verb(arguments)
        else:
            tool = getattr(importlib.import_module(f"eurosat.tools.{verb}"), verb)
            return _run_tool(verb, tool, arguments[1:])
    except EuroSATError as error:
        print(f"eurosat {verb}: error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("eurosat"):
            raise  # ours to repair, not the user's to install
        extra = EXTRAS_OF_PACKAGES.get(error.name) or EXTRAS.get(verb, "train")
        print(
            f"eurosat {verb}: error: the package {error.name} is not installed: "
            f"pip install 'eurosat[{extra}]'",
            file=sys.stderr,
        )
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


def _run_tool(verb: str, tool: Callable[..., int | None], arguments: Sequence[str]) -> int:
    """Call a tool with what its parameters get from the command line, and give its exit code.

    Parameters before the ``*`` of its signature stand alone on the command line, a list taking
    one or more; the keyword-only ones are options. All may come from a YAML file instead. A
    function `epilog` in the tool's module gives the last lines of the help text.
    """
    from docstring_parser import parse
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        """Keeps the lines of an epilog; paragraphs of a docstring are filled here."""

    documentation = parse(inspect.getdoc(tool) or "")
    described = {entry.arg_name: entry.description for entry in documentation.params}
    paragraphs = (documentation.description or "").split("\n\n")
    width = shutil.get_terminal_size().columns - 2  # as argparse fills other texts
    epilog = getattr(sys.modules[tool.__module__], "epilog", None)
    parser = ArgumentParser(
        prog=f"eurosat {verb}",
        description="\n\n".join(textwrap.fill(paragraph, width) for paragraph in paragraphs),
        epilog=epilog() if epilog else None,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--config", action="config", help="YAML file with options.")
    positional = [
        parameter
        for parameter in inspect.signature(tool).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    for parameter in positional:
        needed = parameter.default is parameter.empty
        several = parameter.annotation == list[str]
        settings: dict[str, Any] = {"help": described[parameter.name]}
        if several:
            settings |= {"type": str, "nargs": "+"}
        else:
            settings |= {"type": parameter.annotation}
        if not needed:  # left out, it keeps what a YAML file or the function says
            settings |= {"nargs": "?", "default": argparse.SUPPRESS}
        parser.add_argument(parameter.name, **settings)
    parser.add_function_arguments(tool, skip={parameter.name for parameter in positional})
    parsed = parser.instantiate_classes(parser.parse_args(list(arguments)))
    del parsed["config"]
    return tool(**parsed.as_dict()) or 0
