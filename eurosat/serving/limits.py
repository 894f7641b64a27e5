"""The limits of the service."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of one API process.

    Attributes:
        max_in_flight: Largest number of requests that the process answers at the same time; a
            request counts from the end of its body.
        max_body_bytes: Largest size of a request's body in bytes.
        max_images: Largest number of images in one request.
        timeout: Longest time from a request's first byte to its answer in seconds.
    """

    max_in_flight: int
    max_body_bytes: int
    max_images: int
    timeout: float

    @property
    def max_bodies_bytes(self) -> int:
        """Largest size of all bodies that the process holds at the same time, in bytes."""
        return 16 * self.max_body_bytes
