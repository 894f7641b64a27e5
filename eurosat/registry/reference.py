"""Names of registered models, as the command line takes them."""

import re
from dataclasses import dataclass
from typing import Literal

from eurosat.errors import RegistryError

Registry = Literal["git", "wandb"]
Stage = Literal["staging", "production"]

DEFAULT_NAME = "eurosat"
"""The model's name where none is given; `dvc.yaml` declares it."""

_FORM = re.compile(
    r"(?P<prefix>registry|wandb):"
    r"((?P<name>[a-z][a-z0-9-]*)@)?"
    r"((?P<stage>staging|production)|(?P<version>v\d+(\.\d+\.\d+)?))"
)


@dataclass(frozen=True)
class Reference:
    """A version of a model, or whichever is in a stage.

    Attributes:
        registry: ``"git"`` for tags, ``"wandb"`` for the W&B Registry.
        name: The model's name.
        version: Such as ``"v0.1.0"``; None where the stage decides.
        stage: None where the version is given.
    """

    registry: Registry
    name: str
    version: str | None
    stage: str | None

    def __str__(self) -> str:
        """As the command line takes it."""
        prefix = "registry" if self.registry == "git" else "wandb"
        return f"{prefix}:{self.name}@{self.stage or self.version}"


def is_reference(place: str) -> bool:
    """Whether a place is meant as a registered model, rather than a file or an address."""
    return place.startswith(("registry:", "wandb:"))


def check_referable(name: str, version: str) -> None:
    """Make sure that a version which is about to be registered can be asked for.

    Args:
        name: The model's name.
        version: Such as ``"v1.0.0"``.

    Raises:
        RegistryError: No reference would reach it.
    """
    if not _FORM.fullmatch(f"registry:{name}@{version}") or version.count(".") != 2:
        raise RegistryError(
            f"{name} {version} could not be served as registry:{name}@{version}: a name has small "
            "letters, digits and dashes, a version the form v1.0.0, without a pre-release"
        )


def parse_reference(place: str) -> Reference:
    """Read ``registry:production``, ``registry:v0.1.0`` or ``registry:NAME@production``.

    Raises:
        RegistryError: It has another form.
    """
    match = _FORM.fullmatch(place)
    if match is None:
        raise RegistryError(
            f"'{place}' names no registered model: write registry:production, registry:staging, "
            "registry:v0.1.0 or registry:NAME@production (wandb:... for the W&B Registry)"
        )
    return Reference(
        "git" if match["prefix"] == "registry" else "wandb",
        match["name"] or DEFAULT_NAME,
        match["version"],
        match["stage"],
    )
