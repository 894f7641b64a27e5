"""The HTTP service: LitServe with this project's routes, admission and recovery; and its client."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eurosat.serving.client import Client as Client
    from eurosat.serving.client import Prediction as Prediction

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "client": ["Client", "Prediction"],
    },
)
