"""Data: from any source to batches of raw patches."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eurosat.data.datamodule import EuroSATDataModule as EuroSATDataModule
    from eurosat.data.opened import OpenedData as OpenedData
    from eurosat.data.transforms import RandomShift as RandomShift

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "datamodule": ["EuroSATDataModule"],
        "opened": ["OpenedData"],
        "transforms": ["RandomShift"],
    },
)
