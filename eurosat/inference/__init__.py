"""Running models: the model card, the backends, and the preparation of images for a model."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eurosat.inference.backend import Backend as Backend
    from eurosat.inference.backend import Format as Format
    from eurosat.inference.backend import Model as Model
    from eurosat.inference.backends import formats as formats
    from eurosat.inference.backends import register_backend as register_backend
    from eurosat.inference.backends import register_format as register_format
    from eurosat.inference.card import ModelCard as ModelCard
    from eurosat.inference.runtime import open_model as open_model

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "backend": ["Backend", "Format", "Model"],
        "backends": ["formats", "register_backend", "register_format"],
        "card": ["ModelCard"],
        "runtime": ["open_model"],
    },
)
