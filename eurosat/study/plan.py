"""Reading a study's YAML file, and the runs that the study consists of."""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from eurosat.errors import StudyError

Settings = dict[str, Any]
"""Values by dotted option name of ``eurosat fit``, such as ``{"model.backbone": "resnet18"}``."""


@dataclass(frozen=True)
class Cell:
    """One point of a study's grid, which is trained once per seed.

    Attributes:
        labels: Label of the point on each axis, such as ``{"backbone": "resnet18"}``.
        settings: Settings of the point.
    """

    labels: Mapping[str, Any]
    settings: Settings


@dataclass(frozen=True)
class Study:
    """The contents of a study's file.

    Attributes:
        name: Name of the YAML file, without its ending.
        title: Title of the table and the plot.
        configs: Configuration files of ``eurosat fit``, applied in order.
        axes: Settings by label, for each axis.
        seeds: Seeds; each cell is trained once per seed.
        resplit: Whether the seed also draws the split, so that intervals include the choice of
            the data.
        settings: Settings of every run.
        minutes: Minutes of training per run on this machine; if not given, the configurations
            set the number of epochs.
    """

    name: str
    title: str
    configs: list[str]
    axes: dict[str, dict[Any, Settings]]
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    resplit: bool = False
    settings: Settings = field(default_factory=dict)
    minutes: float | None = None

    @property
    def cells(self) -> list[Cell]:
        """All combinations of the axes' values."""
        return [
            Cell(
                dict(zip(self.axes, labels, strict=True)),
                self.settings
                | {
                    name: value
                    for axis, label in zip(self.axes, labels, strict=True)
                    for name, value in self.axes[axis][label].items()
                },
            )
            for labels in itertools.product(*self.axes.values())
        ]

    def arguments(self, cell: Cell, seed: int) -> list[str]:
        """Arguments of ``eurosat fit`` for one run."""
        settings = cell.settings | {"seed_everything": seed}
        if self.resplit:
            settings |= {"data.split_seed": seed}
        return [
            *(f"--config={path}" for path in self.configs),
            *(f"--{name}={_text(value)}" for name, value in settings.items()),
        ]

    def folder(self, cell: Cell, seed: int) -> str:
        """Name of the folder of one run.

        The name ends with a digest of all settings of the run and of the contents of the
        configuration files, so that runs of different settings have different folders.
        """
        return self._name(cell, f"seed{seed}", [self.arguments(cell, seed), self.minutes])

    def speed_folder(self, cell: Cell) -> str:
        """Name of the folder of the short run that measures a cell's speed."""
        return self._name(cell, "speed", [self.arguments(cell, 0)])

    def _name(self, cell: Cell, kind: str, asked: list[Any]) -> str:
        content = [yaml.safe_load(Path(path).read_text("utf-8")) for path in self.configs]
        digest = hashlib.sha256(json.dumps([content, *asked]).encode()).hexdigest()[:8]
        labels = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", str(v)) for v in cell.labels.values())
        return f"{labels}-{kind}-{digest}"


def read_study(path: Path) -> Study:
    """Read a study.

    An axis is either ``{label: {option: value, ...}, ...}``, or a list of values, in which case the
    axis has the name of an option.

    Args:
        path: YAML file.

    Returns:
        The study.

    Raises:
        StudyError: The file is missing or not a valid study.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyError(f"the study {path} cannot be read ({error})") from error
    needed = {"title", "configs", "axes"}
    if not isinstance(content, dict) or not needed <= content.keys():
        raise StudyError(f"{path} is not a study: add the keys title, configs and axes")
    known = {entry.name for entry in fields(Study)} - {"name"}
    if unknown := content.keys() - known:
        raise StudyError(
            f"{path} has unknown keys {', '.join(sorted(map(str, unknown)))}: a study has "
            f"{', '.join(sorted(known))}"
        )
    if isinstance(axes := content["axes"], dict):
        content["axes"] = {name: _by_label(name, values) for name, values in axes.items()}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Study, skip={"name"})
    try:
        parsed = parser.parse_object({k: v for k, v in content.items() if v is not None})
    except ArgumentError as error:
        raise StudyError(f"{path}: {' '.join(str(error).split())}") from error
    study = Study(path.stem, **parsed.as_dict())
    _check(path, study)
    return study


def _by_label(name: str, values: Any) -> Any:
    return (
        {_label(value): {name: value} for value in values} if isinstance(values, list) else values
    )


def _check(path: Path, study: Study) -> None:
    """Refuse values that have a valid type and no meaning.

    Raises:
        StudyError: A value has no meaning.
    """
    if not study.axes or not all(study.axes.values()):
        raise StudyError(f"{path}: axes must name one axis or more, each with values")
    if not study.seeds or len(set(study.seeds)) < len(study.seeds):
        raise StudyError(f"{path}: seeds must name one number or more, each once")
    if study.minutes is not None and not study.minutes > 0:
        raise StudyError(f"{path}: minutes must be more than 0, got {study.minutes}")
    for config in study.configs:
        if not Path(config).is_file():
            raise StudyError(
                f"{path} names the configuration {config}, which does not exist: give a path "
                "relative to the current folder"
            )


def _label(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else json.dumps(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
