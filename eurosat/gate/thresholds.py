"""What the gate allows, and by default: nowhere else, and with light imports for the help."""

from dataclasses import asdict, dataclass

from eurosat.errors import GateError


@dataclass(frozen=True)
class Thresholds:
    """What is allowed; `eurosat.tools.gate.gate` explains each, ``docs/gate.md`` why.

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
            GateError: One is negative or no number. Infinity is allowed: it asks for nothing.
        """
        for name, value in asdict(self).items():
            if not value >= 0:
                raise GateError(f"--{name} must be 0 or more, got {value:g}")
