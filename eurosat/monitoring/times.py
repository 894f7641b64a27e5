"""Times on the command line."""

from datetime import UTC, datetime

from eurosat.errors import PredictionLogError


def parse_time(option: str, text: str | None) -> float | None:
    """Convert a time of the command line to seconds since 1970; UTC unless it has an offset.

    Args:
        option: Name of the option, for the error message.
        text: The time, such as ``2026-11-26`` or ``2026-11-26T14:30``; None if it is not given.

    Raises:
        PredictionLogError: The text is no time.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise PredictionLogError(
            f"--{option} is '{text}', not a time: write a time such as 2026-11-26 or "
            "2026-11-26T14:30"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
