"""Running models: the model card, the backends, and images as a model takes them."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eurosat.inference.card import ModelCard as ModelCard
    from eurosat.inference.runtime import Model as Model
    from eurosat.inference.runtime import open_model as open_model

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "card": ["ModelCard"],
        "runtime": ["Model", "open_model"],
    },
)
