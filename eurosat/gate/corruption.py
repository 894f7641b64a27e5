"""Define a corruption of images, and apply corruptions to patches."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eurosat.bands import Channel

Pixels = npt.NDArray[Any]
"""Raw pixels, uint8 or uint16, channels last: shape (N, height, width, C)."""

SEVERITIES = (1, 2, 3, 4, 5)

Change = Callable[[Pixels, float, Sequence[Channel], np.random.Generator], Pixels]
"""Changes patches by an amount, given the C channels of the patches and a random generator.

The function returns new patches of the same dtype and shape. The function must draw random numbers
patch by patch, and must draw the same numbers for every amount.
"""

_CHUNK = 256  # patches; small chunks limit the memory of float copies


@dataclass(frozen=True)
class Corruption:
    """One way in which images degrade between the sensor and the model.

    Attributes:
        name: Key in ``gate.json``, such as "band_shift".
        title: Name for people, such as "band shift".
        meaning: Meaning of the amounts, with their unit.
        amounts: The amount at severities 1 to 5, from the least change to the greatest.
        change: Function that changes patches by an amount.
        stream: Number of the stream of random numbers; computed from the name if not given. Each
            corruption has a separate stream, so a new corruption does not change the draws of
            other corruptions.
    """

    name: str
    title: str
    meaning: str
    amounts: tuple[float, float, float, float, float]
    change: Change
    stream: int | None = None

    def amount(self, severity: int) -> float:
        """Give the amount at a severity.

        Raises:
            ValueError: The severity is not one of 1 to 5.
        """
        if severity not in SEVERITIES:
            raise ValueError(f"severity {severity} is not one of 1 to 5")
        return self.amounts[severity - 1]

    def apply(
        self, pixels: Pixels, severity: int, channels: Sequence[Channel], *, seed: int = 0
    ) -> Pixels:
        """Corrupt patches.

        The random part, such as directions and noise, depends on the seed, the corruption and the
        position of a patch. The random part is the same at every severity, so that severities
        differ in the amount only.

        Args:
            pixels: Raw patches, uint8 (R, G, B) or uint16 (bands), shape (N, height, width, C).
            severity: Severity, 1 to 5.
            channels: The C channels.
            seed: Seed of the random part.

        Returns:
            New patches of the same dtype and shape.

        Raises:
            ValueError: The severity is not one of 1 to 5.
        """
        amount = self.amount(severity)
        stream = zlib.crc32(self.name.encode()) if self.stream is None else self.stream
        generator = np.random.default_rng([seed, stream])
        result = np.empty_like(pixels)
        for start in range(0, len(pixels), _CHUNK):
            chunk = pixels[start : start + _CHUNK]
            result[start : start + _CHUNK] = self.change(chunk, amount, channels, generator)
        return result
