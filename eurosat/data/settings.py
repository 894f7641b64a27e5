"""Which settings of the data module describe a data set, as its signature lists them."""

import inspect

IMAGES = ("source", "revision", "classes", "synthetic_images")
"""Settings that say which images there are."""

LOADING = ("augmentations", "batch_size", "num_workers", "images")
"""Settings of the data module that say how batches are loaded, and nothing of the data set."""


def data_settings() -> tuple[str, ...]:
    """Names of all settings that describe a data set: its images, bands, place and splits."""
    from eurosat.data.datamodule import EuroSATDataModule

    names = inspect.signature(EuroSATDataModule).parameters
    return tuple(name for name in names if name not in LOADING)
