"""Reading a sweep's YAML file and checking it against the command line of its runs."""

import difflib
import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from eurosat.errors import SettingsError, SweepError
from eurosat.metrics import best_value, logged_names


@dataclass(frozen=True)
class Sweep:
    """A checked sweep, which can be registered."""

    definition: dict[str, Any]
    """The file's content in W&B's format."""
    warnings: list[str]
    """Settings that are valid but probably a mistake, one sentence each."""


def read_sweep(path: Path) -> Sweep:
    """Read a sweep, and parse its parameters with the command line's own parser.

    Args:
        path: A YAML file in W&B's format for sweeps.

    Returns:
        The sweep.

    Raises:
        SweepError: The file, its command or a parameter would make every run fail, or the sweep
            would optimise a metric that its runs do not log.
    """
    definition = _load(path)
    try:
        _check_search(definition)
        arguments = _fixed_arguments(definition)
        settings = _settings(arguments, f"the command of {path}")
        logged = _logged_metrics(settings)
        _check_run(settings, logged)
        for name, argument, parameters in _trials(definition["parameters"]):
            _check_run(_try(name, argument, [*arguments, *parameters], settings), logged)
        return Sweep(definition, _check_metric(definition, settings, logged))
    except SweepError as error:
        raise SweepError(f"{path}: {error}") from error


def _load(path: Path) -> dict[str, Any]:
    try:
        definition = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise SweepError(f"{path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SweepError(f"{path} is not YAML: {error}") from error
    example = "configs/sweeps/random.yaml is an example"
    if not isinstance(definition, dict):
        raise SweepError(f"{path} is not a sweep; {example}")
    missing = [
        name for name in ("program", "method", "parameters", "command") if not definition.get(name)
    ]
    if missing or not isinstance(definition["parameters"], dict):
        raise SweepError(f"{path} lacks {', '.join(missing) or 'named parameters'}: {example}")
    return definition


def _check_search(definition: dict[str, Any]) -> None:
    """Check the settings of the search, which W&B's client does not check."""
    choices = {
        "method": (definition["method"], ("grid", "random", "bayes")),
        "goal of the metric": (_of(definition, "metric", "goal"), ("minimize", "maximize", None)),
        "type of early_terminate": (
            _of(definition, "early_terminate", "type"),
            ("hyperband", None),
        ),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise SweepError(
                f"the {name} cannot be {value}: choose {' or '.join(filter(None, known))}"
            )


def _of(definition: dict[str, Any], part: str, name: str) -> Any:
    content = definition.get(part)
    return content.get(name) if isinstance(content, dict) else None


def _fixed_arguments(definition: dict[str, Any]) -> list[str]:
    """Arguments that every run passes to ``eurosat fit``, without the sweep's parameters."""
    parts = [
        definition["program"] if part == "${program}" else str(part)
        for part in definition["command"]
    ]
    if "${args}" not in parts:
        raise SweepError(
            "the command has no ${args}, so no parameter would reach a run (the other forms, such "
            "as ${args_no_hyphens}, are not options of the command line)"
        )
    names = [Path(part).name for part in parts]
    if "eurosat" not in names or names[names.index("eurosat") + 1 :][:1] != ["fit"]:
        raise SweepError("the command does not call 'eurosat fit'")
    arguments = parts[names.index("eurosat") + 2 :]
    return [part for part in arguments if part != "${args}"]


def _settings(arguments: list[str], what: str) -> dict[str, Any]:
    """The whole configuration that ``eurosat fit`` would use.

    Raises:
        SweepError: The command line rejects the arguments.
    """
    from eurosat.training.settings import resolve_settings

    try:
        return resolve_settings(["fit", *arguments], what)
    except SettingsError as error:
        raise SweepError(str(error)) from error


def _trials(parameters: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """List the values to check, each together with the first values of the other parameters.

    The first trials add one parameter at a time, so that the last argument causes a rejection.

    Yields:
        The parameter's name, its argument, and the arguments of all parameters in the file's
        order, written as W&B's agent writes them.
    """
    values = {name: _values_to_try(name, parameter) for name, parameter in parameters.items()}
    first = [f"--{name}={options[0]}" for name, options in values.items()]
    for place, name in enumerate(values):
        yield name, first[place], first[: place + 1]
    for place, (name, options) in enumerate(values.items()):
        for option in options[1:]:
            argument = f"--{name}={option}"
            yield name, argument, [*first[:place], argument, *first[place + 1 :]]


def _try(
    name: str, argument: str, arguments: list[str], settings: dict[str, Any]
) -> dict[str, Any]:
    """Parse a parameter's argument together with the other arguments of a run."""
    try:
        return _settings(arguments, argument)
    except SweepError as error:
        known = sorted(_names(settings))
        if name not in known and (close := difflib.get_close_matches(name, known, n=3)):
            raise SweepError(
                f"there is no setting {name}; close names are {', '.join(close)}"
            ) from error
        raise


def _check_run(settings: dict[str, Any], logged: list[str]) -> None:
    """Refuse settings that would make a run fail, or hide its results from the sweep."""
    trainer = settings["trainer"]
    loggers = trainer["logger"]
    loggers = loggers if isinstance(loggers, list) else [loggers]
    if not any(isinstance(one, dict) and _reports_to_wandb(one) for one in loggers):
        raise SweepError(
            "the runs do not report to W&B: add --config=configs/logger/wandb.yaml to the command"
        )
    if trainer["limit_val_batches"] == 0:
        raise SweepError("the runs do not validate: remove trainer.limit_val_batches")
    if settings["run_directory"]:
        raise SweepError("all runs would share one folder: remove run_directory")
    monitor = settings["checkpoint"]["monitor"]
    if monitor is not None and monitor not in logged:
        raise SweepError(
            f"checkpoints monitor {monitor}, which no run logs: set checkpoint.monitor to a logged "
            "metric"
        )


def _reports_to_wandb(logger: dict[str, Any]) -> bool:
    from lightning.pytorch.loggers import WandbLogger

    module, _, name = logger["class_path"].rpartition(".")
    return issubclass(getattr(importlib.import_module(module), name), WandbLogger)


def _logged_metrics(settings: dict[str, Any]) -> list[str]:
    return [
        name
        for name in logged_names()
        if settings["test_after_fit"] or not name.startswith("test/")
    ]


def _names(settings: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in settings.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _names(value, f"{prefix}{name}.")


def _values_to_try(name: str, parameter: Any) -> list[Any]:
    """Every value of a list, both ends of a range, or the centre of an unbounded distribution."""
    match parameter:
        case {"value": value}:
            return [value]
        case {"values": [*values]} if values:
            return list(values)
        case {"parameters": _}:
            raise SweepError(f"{name} is nested: write its settings as names with dots")
        case {"min": int() | float() as low, "max": int() | float() as high} if low < high:
            ends: list[Any] = [low, high]
        case {"mu": int() | float() as middle}:
            ends = [middle]
        case _:
            raise SweepError(
                f"{name} needs a value, a list of values, or a distribution with min below max "
                "(as numbers: YAML reads 1e-3 as a word, and 1.0e-3 as a number)"
            )
    match str(parameter.get("distribution", "")):
        case "log_uniform" | "q_log_uniform" | "log_normal" | "q_log_normal":
            return [math.exp(end) for end in ends]  # W&B takes exponents of e
        case "uniform" | "log_uniform_values" | "normal":
            return [float(end) for end in ends]
        case _:
            return ends


def _check_metric(
    definition: dict[str, Any], settings: dict[str, Any], logged: list[str]
) -> list[str]:
    """Refuse a metric that no run logs, and warn of a goal that the user hardly means."""
    metric = definition.get("metric")
    if metric is None:
        if definition["method"] == "bayes" or "early_terminate" in definition:
            raise SweepError("a Bayesian search and early ends need a metric: name and goal")
        return []
    if not isinstance(metric, dict) or "name" not in metric:
        raise SweepError("the metric needs a name and a goal")
    if metric["name"] not in logged:
        raise SweepError(
            f"no run logs the metric {metric['name']}: choose one of {', '.join(logged)}"
        )
    goal = str(metric.get("goal", "minimize"))  # W&B's default
    monitor, mode = settings["checkpoint"]["monitor"], settings["checkpoint"]["mode"]
    watched = (monitor, best_value(monitor) if mode == "auto" else mode)
    warnings = []
    better = best_value(str(metric["name"]))
    if goal[:3] != better:
        warnings.append(
            f"the sweep looks for the worst {metric['name']}, because the goal of the metric is to "
            f"{goal} it: set the goal to {better}imize"
        )
    if (metric["name"], goal[:3]) != watched:
        warnings.append(
            f"the sweep is to {goal} {metric['name']}, but checkpoints keep the {watched[1]} of "
            f"{watched[0]}: the best checkpoint of the best run may be another one"
        )
    return warnings
