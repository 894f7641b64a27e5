"""Configuration files and options: another encoding, or a setting that stands twice, is refused."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from eurosat.errors import SettingsError

_load_any = get_loader("yaml")


@contextmanager
def strict_configuration() -> Iterator[None]:
    """Parse the settings of a command in this block.

    Raises:
        SettingsError: A configuration file is not encoded in UTF-8.
    """
    set_loader("yaml", _load, exceptions=(yaml.YAMLError,))
    try:
        yield
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"a configuration file is not encoded in UTF-8 ({error.reason} at byte {error.start}): "
            "save the file as UTF-8"
        ) from error


def _load(text: str) -> Any:
    """Read YAML; of a key that stands twice in a mapping, YAML's reader keeps the last value only.

    Raises:
        yaml.YAMLError: The text is no YAML, or a key stands twice in a mapping.
    """
    _refuse_repeated(yaml.compose(text, Loader=yaml.SafeLoader))
    return _load_any(text)


def _refuse_repeated(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated(item)
    if isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            name: Hashable = key.value if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the setting {key.value} stands twice, and only one of its values "
                    "would count",
                    problem_mark=key.start_mark,
                )
            seen.add(name)
            _refuse_repeated(value)
