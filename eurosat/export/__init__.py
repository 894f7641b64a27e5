"""Export: converting a run's checkpoint to another format, behind a parity gate."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eurosat.export.exporter import Exported as Exported
    from eurosat.export.exporter import ExportSettings as ExportSettings
    from eurosat.export.exporter import export_checkpoint as export_checkpoint

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"exporter": ["Exported", "ExportSettings", "export_checkpoint"]},
)
