"""The classifier and what it is made of."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eurosat.models.classifier import EuroSATClassifier as EuroSATClassifier
    from eurosat.models.mixing import Mixing as Mixing
    from eurosat.models.muon import Muon as Muon
    from eurosat.models.patchnet import PatchNet as PatchNet
    from eurosat.models.preprocess import Preprocess as Preprocess
    from eurosat.models.schedules import WarmupCosine as WarmupCosine

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "classifier": ["EuroSATClassifier"],
        "mixing": ["Mixing"],
        "muon": ["Muon"],
        "patchnet": ["PatchNet"],
        "preprocess": ["Preprocess"],
        "schedules": ["WarmupCosine"],
    },
)
