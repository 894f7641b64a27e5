"""The limits of the service."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of one API process.

    Attributes:
        max_in_flight: Requests that the process answers at the same time.
        max_body_bytes: Size of a request's body in bytes.
        max_images: Images in one request.
        timeout: Seconds from a request's first byte to its answer.
    """

    max_in_flight: int
    max_body_bytes: int
    max_images: int
    timeout: float
