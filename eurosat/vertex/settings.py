"""Settings of Vertex AI: project, region, bucket, image, service account and labels."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec
import yaml

from eurosat.errors import VertexError


@dataclass(frozen=True)
class Settings:
    """What a project's jobs have in common.

    Attributes:
        project: Project of Google Cloud.
        region: Region, such as ``europe-west4``.
        bucket: Name of the bucket for run folders, without ``gs://``.
        image: Image of the training, or of the service for an endpoint.
        service_account: Account of the job or of the deployed model; Vertex AI's own account if
            not given.
        labels: Labels of the job, for the bill.
    """

    project: str | None = None
    region: str | None = None
    bucket: str | None = None
    image: str | None = None
    service_account: str | None = None
    labels: dict[str, str] = field(default_factory=dict)

    def override(self, **given: Any) -> "Settings":
        """Return the settings with all values that are given and not None."""
        labels = self.labels | (given.pop("labels", None) or {})
        known = {name: value for name, value in given.items() if value is not None}
        return replace(self, labels=labels, **known)


DEFAULT_SETTINGS = Path("vertex/settings.yaml")


def read_settings(path: Path | None) -> Settings:
    """Read the settings of a project.

    Args:
        path: YAML file; `DEFAULT_SETTINGS` if None, where a missing file has no settings.

    Raises:
        VertexError: The file cannot be read, or has an unknown key or a wrong value.
    """
    if path is None:
        if not DEFAULT_SETTINGS.is_file():
            return Settings()
        path = DEFAULT_SETTINGS
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
        known = {entry.name for entry in fields(Settings)}
        unknown = sorted(content.keys() - known)
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)} is no setting; the settings are {sorted(known)}"
            )
        present = {name: value for name, value in content.items() if value is not None}
        return msgspec.convert(present, Settings)
    except (OSError, ValueError, AttributeError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise VertexError(
            f"{path} cannot be used ({' '.join(str(error).split())}): correct the file"
        ) from error
