"""The thresholds of the gate and their defaults, which no other module repeats.

The module imports no heavy packages, because the command line's help needs the defaults.
"""

from dataclasses import asdict, dataclass

from eurosat.errors import GateError


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the checks.

    `eurosat.tools.gate.gate` explains each threshold, and ``docs/howto/gate.md`` justifies the
    defaults.

    Margins of accuracies are in percentage points.
    """

    accuracy_margin: float = 0.5
    class_margin: float = 2.0
    calibration_margin: float = 0.02
    max_latency_ratio: float = 1.5
    max_size_ratio: float = 1.5
    robustness_margin: float = 1.0
    corruption_margin: float = 2.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            GateError: A threshold is negative or NaN. An infinite threshold allows every change.
        """
        for name, value in asdict(self).items():
            if not value >= 0:
                raise GateError(f"--{name} must be 0 or more, got {value:g}")
