"""Training: LightningCLI, the trainer, the run folder and what a run leaves in it."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eurosat.training.cli import EuroSATCLI as EuroSATCLI
    from eurosat.training.profiler import PhaseProfiler as PhaseProfiler
    from eurosat.training.trainer import Trainer as Trainer
    from eurosat.training.wandb_tracker import WandbTracker as WandbTracker

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cli": ["EuroSATCLI"],
        "trainer": ["Trainer"],
        "wandb_tracker": ["WandbTracker"],
        "profiler": ["PhaseProfiler"],
    },
)
