"""References to registered models, such as ``registry:production``."""

import re
from dataclasses import dataclass
from typing import Literal

from eurosat.errors import RegistryError

Registry = Literal["git", "wandb"]
Stage = Literal["staging", "production"]

DEFAULT_NAME = "eurosat"
"""Default name of the model; `dvc.yaml` declares it."""

_FORM = re.compile(
    r"(?P<prefix>registry|wandb):"
    r"((?P<name>[a-z][a-z0-9-]*)@)?"
    r"((?P<stage>staging|production)|(?P<version>v\d+(\.\d+\.\d+)?))"
)


@dataclass(frozen=True)
class Reference:
    """A version of a model, or the version that is in a stage.

    Attributes:
        registry: ``"git"`` for tags, ``"wandb"`` for the W&B Registry.
        name: The model's name.
        version: Such as ``"v0.1.0"``; None if the reference names a stage.
        stage: ``"staging"`` or ``"production"``; None if the reference names a version.
    """

    registry: Registry
    name: str
    version: str | None
    stage: str | None

    def __str__(self) -> str:
        """The reference as the command line reads it."""
        prefix = "registry" if self.registry == "git" else "wandb"
        return f"{prefix}:{self.name}@{self.stage or self.version}"


def is_reference(place: str) -> bool:
    """Whether a model URI names a registered model, rather than a file or a bucket address."""
    return place.startswith(("registry:", "wandb:"))


def check_referable(name: str, version: str) -> None:
    """Check that a reference can name a version that is about to be registered.

    Args:
        name: The model's name.
        version: Such as ``"v1.0.0"``.

    Raises:
        RegistryError: No reference could name the version.
    """
    if not _FORM.fullmatch(f"registry:{name}@{version}") or version.count(".") != 2:
        raise RegistryError(
            f"no reference could name {name} {version}: use lower-case letters, digits and dashes "
            "in a name, and a version such as v1.0.0 without a pre-release"
        )


def parse_reference(place: str) -> Reference:
    """Read ``registry:production``, ``registry:v0.1.0`` or ``registry:NAME@production``.

    Raises:
        RegistryError: The reference has another form.
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
