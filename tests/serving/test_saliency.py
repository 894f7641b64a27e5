"""Occlusion maps of patches of any size."""

import numpy as np
import pytest

from eurosat.serving.saliency import CELLS, occlusions, saliency


@pytest.mark.parametrize("size", [1, 2, 5, 8, 50, 64, 100])
def test_every_pixel_is_hidden_and_the_map_peaks_where_the_model_looked(size: int) -> None:
    patch = np.zeros((3, size, size), np.uint8)
    patch[:, size // 3, size // 3] = 255
    versions = occlusions(patch)
    assert (versions[0] == patch).all()
    marker = np.arange(3 * size * size).reshape(3, size, size).astype(np.uint16) + 1
    hidden = (occlusions(marker)[1:] != marker).sum(axis=0)
    assert (hidden[0] > 0).sum() >= size * size - 1  # one pixel may hold the mean itself
    # A model that answers by the bright pixel alone.
    bright = versions[:, 0, size // 3, size // 3] == 255
    probabilities = np.stack([np.where(bright, 0.9, 0.4), np.where(bright, 0.1, 0.6)], axis=1)
    found = saliency(probabilities.astype(np.float32), size)
    cells = min(CELLS, size)
    assert found.shape == (cells, cells)
    if size > 1:  # of a single pixel the mean is the pixel
        cell = (size // 3) * cells // size
        assert found[cell, cell] == pytest.approx(0.5)
