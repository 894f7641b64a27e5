"""The display colour of every class."""

from collections.abc import Sequence

import numpy as np

from eurosat.labels import CLASSES

COLOURS: dict[str, str] = dict(
    zip(
        CLASSES,
        (
            *("#e0a419", "#1b6b3a", "#8fb84c", "#6e6e73", "#8c4bb3"),
            *("#4fae6e", "#b5672a", "#d1495b", "#3fa7d6", "#1d4e89"),
        ),
        strict=True,
    )
)
"""Display colour (sRGB hex) of each of EuroSAT's ten classes."""


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """Give every class its display colour.

    Args:
        classes: Class names in index order.

    Returns:
        sRGB hex by class name: the colour in `COLOURS` if the class has one, otherwise an evenly
        spaced colour of the turbo colour map.
    """
    if set(classes) <= COLOURS.keys():
        return {name: COLOURS[name] for name in classes}
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    spread = map(to_hex, colormaps["turbo"](np.linspace(0.05, 0.95, len(classes))))
    return {name: COLOURS.get(name, other) for name, other in zip(classes, spread, strict=True)}
