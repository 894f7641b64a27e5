"""Batches: a sampler that hands out whole batches of indices, and a data set that gathers them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from eurosat.data.splits import Indices
from eurosat.data.transforms import Augmentation


class Batch(TypedDict):
    """A batch of raw patches.

    ``image`` is uint8 or uint16, shape (B, C, height, width), channels-last in memory; ``label``
    is int64, shape (B,); ``index`` is int64, shape (B,), positions in the store.
    """

    image: Tensor
    label: Tensor
    index: Tensor


class BatchSampler(DistributedSampler[tuple[int, Indices]]):
    """Yields ``(epoch, indices)``, one whole batch at a time, for this rank.

    When shuffling, the order depends on the seed and the epoch only, and the last patches that do
    not fill a batch on every rank sit out this epoch. Otherwise every patch is visited exactly
    once over all ranks, with none repeated to fill up, so that metrics are exact; every rank gets
    the same number of batches, as collective operations need.

    It is a ``DistributedSampler`` so that Lightning leaves it alone and sets its epoch.
    """

    def __init__(
        self,
        indices: Indices,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        ranks: int = 1,
        rank: int = 0,
    ) -> None:
        """Set up the sampler.

        Args:
            indices: Positions in the store to visit, int64.
            batch_size: Patches a batch and rank.
            shuffle: Whether to shuffle every epoch (training).
            seed: Seed of the shuffle.
            ranks: Number of processes.
            rank: This process.

        Raises:
            ValueError: There are fewer patches than processes.
        """
        if len(indices) < ranks:
            raise ValueError(f"{len(indices)} patches cannot be divided among {ranks} processes")
        super().__init__(
            indices,  # type: ignore[arg-type]  # only its length is used
            num_replicas=ranks,
            rank=rank,
            shuffle=shuffle,
            seed=seed,
        )
        self.indices = indices
        self.batch_size = min(batch_size, len(indices) // ranks) if shuffle else batch_size

    def __len__(self) -> int:
        """Number of batches this rank gets in an epoch."""
        if self.shuffle:
            return len(self.indices) // (self.batch_size * self.num_replicas)
        batches = -(-len(self.indices) // (self.batch_size * self.num_replicas))
        # No more batches than the rank with the fewest patches has patches: of single patches, the
        # last two go together.
        return min(batches, len(self.indices) // self.num_replicas)

    def __iter__(self) -> Iterator[tuple[int, Indices]]:
        """Yield this rank's batches of the current epoch."""
        order = self.indices
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        own = order[self.rank :: self.num_replicas]
        # A rank whose patches just fill its batches still owes the other ranks one more batch: its
        # last patch makes that batch. Starts are clipped for it.
        starts = np.minimum(np.arange(len(self)) * self.batch_size, len(own) - 1)
        ends = [*starts[1:], starts[-1] + self.batch_size if self.shuffle else len(own)]
        for start, end in zip(starts, ends, strict=True):
            yield self.epoch, own[start:end]


class PatchDataset(Dataset[Batch]):
    """Gathers batches from the store's arrays, augmenting them if asked."""

    def __init__(
        self,
        images: npt.NDArray[Any],
        labels: npt.NDArray[np.int64],
        channels: Sequence[int] | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Wrap the arrays.

        Args:
            images: uint8 or uint16, shape (N, height, width, channels), usually memory-mapped.
            labels: int64, shape (N,).
            channels: Positions of the channels to keep, in order; None keeps all.
            augmentation: Applied to every patch.
        """
        self.images = images
        self.labels = labels
        self.channels = channels
        self.augmentation = augmentation

    def __getstate__(self) -> dict[str, Any]:
        """Send a worker process the place of memory-mapped patches, not a copy of them."""
        state = self.__dict__.copy()
        if isinstance(self.images, np.memmap):
            state["images"] = Path(str(self.images.filename))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the patches again."""
        self.__dict__.update(state)
        if isinstance(self.images, Path):
            self.images = np.load(self.images, mmap_mode="r")

    def __len__(self) -> int:
        """Number of patches in the store."""
        return len(self.images)

    def __getitem__(self, batch: tuple[int, Indices]) -> Batch:
        """Gather one batch.

        Args:
            batch: The epoch and the positions to gather, as :class:`BatchSampler` gives them.
        """
        epoch, indices = batch
        images = self.images[indices]
        if self.channels is not None:
            images = np.ascontiguousarray(images[..., self.channels])
        if self.augmentation is not None:
            for position, index in enumerate(indices):
                images[position] = self.augmentation(images[position], epoch, int(index))
        return Batch(
            image=torch.from_numpy(images).permute(0, 3, 1, 2),
            label=torch.from_numpy(self.labels[indices]),
            index=torch.from_numpy(indices),
        )
