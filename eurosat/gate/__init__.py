"""Compare a candidate model with the model in use, on the same test images."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eurosat.gate.corruption import Corruption as Corruption
    from eurosat.gate.corruptions import register_corruption as register_corruption

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "corruption": ["Corruption"],
        "corruptions": ["register_corruption"],
    },
)
