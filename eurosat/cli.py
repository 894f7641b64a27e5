"""The command line: LightningCLI runs the trainer verbs, jsonargparse runs the tool verbs.

Slow imports are inside the functions, so that ``eurosat --help`` is fast.
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
from eurosat.operating_system import limit_threads, refuse_windows
from eurosat.plain_text import plain

TRAINER_VERBS = {
    "fit": "train a classifier, then test its best checkpoint",
    "validate": "evaluate a checkpoint on the validation split",
    "test": "evaluate a checkpoint on the test split and write the report",
    "predict": "classify image files or folders and write a CSV file",
}
TOOL_VERBS = {
    "init": "create a project in a new or empty folder: configurations, pipeline, sweeps, studies",
    "prepare": "download or open a data set, check and decode it, and show its contents",
    "study": "train every combination of settings with several seeds, and compare the settings",
    "sweep": "search for good hyperparameters with Weights & Biases, on every GPU of this machine",
    "report": "draw the figures and write the reports of finished runs",
    "export": "convert a checkpoint to another format, such as ONNX, and compare the predictions",
    "gate": "compare a candidate with the model in use; the exit code is 1 if a check fails",
    "promote": "register a model and assign it to a stage, staging or production",
    "vertex": "train, tune or serve on Vertex AI",
    "serve": "serve a model file over HTTP, with a page to try the model",
    "drift": "compare the images that a service received with the validation images of its model",
    "log": "read the predictions that a service logged, or remove records",
    "classify": "send image files to a service and print the predicted class of each image",
}
EXTRAS = {
    "drift": "monitor",
    "export": "export",
    "log": "monitor",
    "promote": "pipeline",
    "serve": "serve",
    "vertex": "vertex",
}
"""The optional dependencies that a verb needs; a verb without an entry needs ``train``."""
NOT_ON_WINDOWS = {"serve", "study", "sweep"}
EXTRAS_OF_PACKAGES = {"wandb": "track", "tensorboard": "tensorboard", "mlflow": "mlflow"}
"""The optional dependencies that an option needs, by package."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: The arguments; if not given, the arguments of the process.

    Returns:
        The exit code: 0 after success, 2 after a mistake in usage or data, 1 if a gate failed, or
        if a training, a study or a service ended early.
    """
    limit_threads()  # before a library that reads the limit is imported
    arguments = list(sys.argv[1:] if args is None else args)
    verb = _top_level_parser().parse_args(arguments[:1]).verb
    try:
        if verb in TRAINER_VERBS:
            # torch 2.15 warns about a name that Lightning 2.6 still uses. Users cannot act on it.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            from eurosat.training.cli import run_trainer_verb

            run_trainer_verb(arguments)
        else:
            tool = getattr(importlib.import_module(f"eurosat.tools.{verb}"), verb)
            return _run_tool(verb, tool, arguments[1:])
    except EuroSATError as error:
        # A message may quote a model file or an image's name.
        message = "\n".join(map(plain, str(error).split("\n")))
        print(f"eurosat {verb}: error: {message}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("eurosat"):
            raise  # A missing module of eurosat is a fault of eurosat; pip cannot install it.
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
        epilog="'eurosat VERB --help' shows the options of a verb.\n\n"
        "Start in a clone, or in a project that 'eurosat init' has made:\n"
        "  eurosat fit --config configs/quickstart.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"eurosat {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    for name, line in (TRAINER_VERBS | TOOL_VERBS).items():
        verbs.add_parser(name, help=line, add_help=False)
    return parser


def _run_tool(verb: str, tool: Callable[..., int | None], arguments: Sequence[str]) -> int:
    """Call a tool with the arguments of the command line, and return the tool's exit code.

    Parameters before the ``*`` of the tool's signature are positional arguments; a parameter of
    type ``list[str]`` takes one argument or more. Keyword-only parameters are options. A YAML file
    can set every parameter. A function `epilog` in the tool's module returns the last lines of the
    help text.
    """
    from docstring_parser import parse
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    from eurosat.configuration import strict_configuration

    class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        """Keeps the line breaks of an epilog and of the description, which is filled below."""

    documentation = parse(inspect.getdoc(tool) or "")
    described = {entry.arg_name: entry.description for entry in documentation.params}
    paragraphs = (documentation.description or "").split("\n\n")
    width = shutil.get_terminal_size().columns - 2  # argparse fills other texts to this width
    epilog = getattr(sys.modules[tool.__module__], "epilog", None)
    parser = ArgumentParser(
        prog=f"eurosat {verb}",
        allow_abbrev=False,
        description="\n\n".join(textwrap.fill(paragraph, width) for paragraph in paragraphs),
        epilog=epilog() if epilog else None,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--config", action="config", help="YAML file with options of this command.")
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
        if not needed:  # Without the argument, the value of a YAML file or the default remains.
            settings |= {"nargs": "?", "default": argparse.SUPPRESS}
        parser.add_argument(parameter.name, **settings)
    parser.add_function_arguments(tool, skip={parameter.name for parameter in positional})
    with strict_configuration():
        given = parser.parse_args(list(arguments))
    parsed = parser.instantiate(given)
    del parsed["config"]
    if verb in NOT_ON_WINDOWS:
        refuse_windows(verb)
    return tool(**parsed.as_dict()) or 0
