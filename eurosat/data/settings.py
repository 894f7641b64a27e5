"""The settings of the data module that describe a data set, as the signature lists them."""

import inspect

IMAGES = ("source", "revision", "band_order", "classes", "synthetic_images")
"""Settings of the data module that define the images of a data set."""

LOADING = ("augmentations", "batch_size", "num_workers", "images")
"""Settings of the data module that define how batches are loaded, not the data set."""


def data_settings() -> tuple[str, ...]:
    """Give the names of all settings that describe a data set: images, bands, folder and splits."""
    from eurosat.data.datamodule import EuroSATDataModule

    names = inspect.signature(EuroSATDataModule).parameters
    return tuple(name for name in names if name not in LOADING)
