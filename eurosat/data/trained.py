"""The images and the split of a training, which its checkpoints carry."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from eurosat.errors import DataSourceError


@dataclass(frozen=True)
class TrainedOn:
    """The images of a training and their split.

    Attributes:
        source: Short name of the source.
        images: SHA-256 over pixels, labels and names of all images.
        split: SHA-256 over the images of each split.
        settings: Settings of the data module that make the split, by name.
        other_data: Whether an earlier part of the training had other images or another split, so
            that no split of these images is free of training images.
    """

    source: str
    images: str
    split: str
    settings: Mapping[str, Any]
    other_data: bool = False

    @classmethod
    def of_checkpoint(cls, checkpoint: Mapping[str, Any]) -> Self | None:
        """Read the description from a checkpoint; None if an older revision wrote it."""
        state = checkpoint.get("EuroSATDataModule")
        return cls.of_state(state) if state else None

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        """Read what `state_dict` gave, in this revision or in an older or newer one."""
        return cls(**{item.name: state[item.name] for item in fields(cls) if item.name in state})

    def state_dict(self) -> dict[str, Any]:
        """Give the description as plain values, which a checkpoint holds."""
        return asdict(self)

    def refuse(self, other: "TrainedOn") -> None:
        """Refuse other images, and another split of the same images.

        Raises:
            DataSourceError: The images or their split differ.
        """
        if self.images == other.images and self.split == other.split:
            return
        if self.images != other.images:
            what = f"trained on other images (of the source {self.source})"
        else:
            options = " ".join(f"--data.{name} {value}" for name, value in self.settings.items())
            what = f"trained on another split of these images ({options})"
        raise DataSourceError(
            f"the checkpoint was {what}, so its validation and test images may be training images "
            "here, and the reverse: give the data of the training, or pass --other_data true, "
            "which marks the metrics"
        )
