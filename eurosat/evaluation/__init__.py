"""Results of a run or a comparison: predictions, intervals, figures and reports."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eurosat.evaluation.intervals import student_interval as student_interval
    from eurosat.evaluation.intervals import wilson_interval as wilson_interval
    from eurosat.evaluation.predictions import Predictions as Predictions
    from eurosat.evaluation.run_report import write_report as write_report

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "intervals": ["student_interval", "wilson_interval"],
        "predictions": ["Predictions"],
        "run_report": ["write_report"],
    },
)
