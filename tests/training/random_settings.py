"""Settings drawn at random from the types of the parser's own options."""

import datetime
import json
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from lightning.pytorch.cli import LightningArgumentParser

from eurosat.training.cli import EuroSATCLI

INTEGERS = (-2, -1, 0, 1, 2, 3, 7, 10**20)
NUMBERS = (-0.5, 0.0, 0.1, 0.5, 1.0, 1.5, 1e30, float("nan"), float("inf"))
WORDS = ("", "auto", "x", "é/..", "{}", "%", "[1]", "rgb", "B04", "val/loss", "val/none", "norm")
SPANS = ("00:00:00:01", "1:00:00", "-1 day, 0:00:00", "x")
PACKAGES = {"albumentations", "eurosat", "lightning", "torch"}
"""Packages whose classes are drawn; what else a process imports depends on the tests before."""


def option_types() -> dict[str, Any]:
    """Types of the options of 'eurosat fit', by the option's name."""
    parsers: list[LightningArgumentParser] = []

    class BuiltError(Exception):
        """The parser is built."""

    class Reader(EuroSATCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            super().add_arguments_to_parser(parser)
            parsers.append(parser)

        def parse_arguments(self, *_: Any) -> None:
            raise BuiltError

    with suppress(BuiltError):
        Reader(["fit"])
    actions = {action.dest: getattr(action, "_typehint", None) for action in parsers[0]._actions}
    return {
        name: kind
        for name, kind in actions.items()
        if kind is not None and not name.endswith(".help")
    }


def draw_options(types: Mapping[str, Any], seed: int, *, wrong: float) -> list[str]:
    """Draw values of one to three options.

    Args:
        types: Types of the options by name.
        seed: Seed of the draw.
        wrong: Fraction of the values that are of any type.
    """
    draw = random.Random(seed)
    names = draw.sample(sorted(types), draw.randint(1, 3))
    values = [_value(types[name], draw, wrong) for name in names]
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return [f"--{name}={text}" for name, text in zip(names, texts, strict=True)]


def _value(kind: Any, draw: random.Random, wrong: float) -> Any:
    """Draw a value of a type; numbers may be out of the type's range."""
    if draw.random() < wrong:
        kind = draw.choice([int, float, str, bool, list[int], NoneType])
    arguments = get_args(kind)
    match get_origin(kind) or kind:
        case origin if origin in (Union, UnionType):
            return _value(draw.choice(arguments), draw, wrong)
        case origin if origin is Literal:
            return draw.choice(arguments)
        case origin if origin is tuple and ... not in arguments:
            return [_value(each, draw, wrong) for each in arguments]
        case origin if origin in (list, tuple):
            return [_value(arguments[0], draw, wrong) for _ in range(draw.randint(0, 3))]
        case origin if origin is dict:
            return {draw.choice(WORDS): _value(arguments[1], draw, wrong)}
        case origin if origin is Callable:
            return _value(arguments[1], draw, wrong)
        case origin if origin is bool:
            return draw.choice([True, False])
        case origin if origin is NoneType:
            return None
        case origin if origin is datetime.timedelta:
            return draw.choice(SPANS)
        case origin if isinstance(origin, type) and issubclass(origin, int):
            return draw.choice(INTEGERS)
        case origin if isinstance(origin, type) and issubclass(origin, float):
            return draw.choice(NUMBERS)
        case origin if isinstance(origin, type) and origin.__module__.split(".")[0] in PACKAGES:
            return draw.choice(_classes(origin))
        case _:
            return draw.choice(WORDS)


def _classes(ancestor: type) -> list[str]:
    """Class paths of a class and of its descendants."""
    found: set[str] = set()
    waiting = [ancestor]
    while waiting:
        item = waiting.pop()
        waiting += item.__subclasses__()
        if item.__module__.split(".")[0] in PACKAGES and "<locals>" not in item.__qualname__:
            found.add(f"{item.__module__}.{item.__qualname__}")
    return sorted(found)
