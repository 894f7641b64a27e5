"""Specs of Vertex AI: read, and filled in with a project's settings."""

import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, get_args

import yaml

from eurosat.errors import VertexError
from eurosat.vertex.checks import Kind, check_spec
from eurosat.vertex.settings import Settings

_KEYS = {"kind", "hours", "spec"}
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class Request:
    """What is sent to Vertex AI.

    Attributes:
        kind: What the spec describes.
        parent: Project and region, as Vertex AI's addresses have them.
        messages: The checked messages by name, in the order in which they are sent.
        machines: Smallest and largest number of machines at the same time, over all pools and
            trials.
        hours: Expected hours.
    """

    kind: Kind
    parent: str
    messages: dict[str, Any]
    machines: tuple[int, int]
    hours: float | None

    def cost(self, price: float) -> str:
        """Describe the expected cost at a price for one machine and hour."""
        if self.hours is None:
            raise VertexError("the cost needs the expected hours: pass --hours")
        ends = sorted(set(self.machines))
        machines = " to ".join(str(end) for end in ends)
        totals = " to ".join(f"{end * self.hours * price:.2f}" for end in ends)
        return f"{machines} machines x {self.hours:g} h x {price:g} an hour = {totals}"


def fill_spec(
    path: Path, settings: Settings, name: str, arguments: list[str], hours: float | None
) -> Request:
    """Read a spec, fill in its placeholders, and check it against Vertex AI's own messages.

    Args:
        path: YAML file with ``kind``, ``spec`` and, if known, ``hours``. In the texts of ``spec``,
            ``${project}``, ``${region}``, ``${bucket}``, ``${image}``, ``${service_account}`` and
            ``${name}`` stand for the settings, and the list item ``${arguments}`` stands for all
            ``arguments``.
        settings: The settings of the project.
        name: Name of the job and of its folder in the bucket.
        arguments: Further arguments of ``eurosat``.
        hours: Expected hours; the spec's if None.

    Raises:
        VertexError: The spec cannot be read, a setting is missing, or Vertex AI would refuse a key,
            a value, a machine or an accelerator.
    """
    if not _NAME.fullmatch(name):
        raise VertexError(
            f"'{name}' cannot be a job's name: use up to 63 lower-case letters, digits and dashes, "
            "and begin with a letter"
        )
    content = _read(path)
    kind: Kind = content["kind"]
    if settings.project is None or settings.region is None:
        missing = [key for key in ("project", "region") if getattr(settings, key) is None]
        raise VertexError(_missing(path, missing))
    values = {key: value for key, value in vars(settings).items() if isinstance(value, str)}
    values["name"] = name
    filled = _Filling(path, values, arguments)
    body = filled(content["spec"])
    if filled.missing:
        raise VertexError(_missing(path, sorted(filled.missing)))
    messages, machines = check_spec(path, kind, body, settings.labels)
    return Request(
        kind,
        f"projects/{settings.project}/locations/{settings.region}",
        messages,
        machines,
        hours if hours is not None else content.get("hours"),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("spec"), dict):
            raise ValueError("the file has no mapping 'spec'")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise VertexError(
            f"{path} is no spec ({' '.join(str(error).split())}): give a file such as "
            "vertex/gpu.yaml"
        ) from error
    unknown = sorted(content.keys() - _KEYS)
    if unknown:
        raise VertexError(
            f"{path} has the unknown keys {', '.join(unknown)}: a spec has {', '.join(_KEYS)}"
        )
    if not isinstance(content.get("hours", 0), int | float):
        raise VertexError(f"{path}: hours is {content['hours']}, and must be a number")
    if content.get("kind") not in get_args(Kind):
        raise VertexError(
            f"{path}: the kind {content.get('kind')} is unknown: choose one of "
            f"{', '.join(get_args(Kind))}"
        )
    return content


def _missing(path: Path, names: list[str]) -> str:
    options = ", ".join(f"--{name}" for name in names)
    return f"{path} needs {', '.join(names)}: pass {options}, or fill in vertex/settings.yaml"


class _Filling:
    """Fills in the placeholders of a spec, and collects the names of missing settings."""

    def __init__(self, path: Path, values: dict[str, str], arguments: list[str]) -> None:
        self.path = path
        self.values = values
        self.arguments = arguments
        self.missing: set[str] = set()

    def __call__(self, node: Any) -> Any:
        match node:
            case dict():
                # A service account is optional; without one, Vertex AI takes its own account.
                optional = {"serviceAccount": "${service_account}"}
                return {
                    key: self(value)
                    for key, value in node.items()
                    if optional.get(key) != value or "service_account" in self.values
                }
            case list():
                return [entry for item in node for entry in self._item(item)]
            case str():
                return self._text(node)
            case _:
                return node

    def _item(self, item: Any) -> list[Any]:
        return list(self.arguments) if item == "${arguments}" else [self(item)]

    def _text(self, text: str) -> str:
        template = Template(text)
        known = {*vars(Settings()), "name"} - {"labels"}
        for name in template.get_identifiers():
            if name not in known:
                raise VertexError(
                    f"{self.path} has the unknown placeholder ${{{name}}}: the placeholders are "
                    f"{', '.join(sorted(known))}"
                )
            if name not in self.values:
                self.missing.add(name)
        return template.safe_substitute(self.values)
