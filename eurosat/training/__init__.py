"""Training: LightningCLI, the trainer, the run folder and what a run leaves in it."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eurosat.training.cli import EuroSATCLI as EuroSATCLI
    from eurosat.training.loggers import FinishesRun as FinishesRun
    from eurosat.training.loggers import LogsPredictions as LogsPredictions
    from eurosat.training.mlflow_tracker import MLflowTracker as MLflowTracker
    from eurosat.training.profiler import PhaseProfiler as PhaseProfiler
    from eurosat.training.tensorboard_tracker import TensorBoardTracker as TensorBoardTracker
    from eurosat.training.trainer import Trainer as Trainer
    from eurosat.training.wandb_tracker import WandbTracker as WandbTracker

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cli": ["EuroSATCLI"],
        "loggers": ["FinishesRun", "LogsPredictions"],
        "trainer": ["Trainer"],
        "tensorboard_tracker": ["TensorBoardTracker"],
        "mlflow_tracker": ["MLflowTracker"],
        "wandb_tracker": ["WandbTracker"],
        "profiler": ["PhaseProfiler"],
    },
)
