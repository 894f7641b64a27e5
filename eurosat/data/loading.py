"""Batches: a sampler gives whole batches of indices, and a data set gathers their patches."""

import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from eurosat.data.splits import Indices
from eurosat.data.transforms import Augmentation
from eurosat.errors import SplitError


class Batch(TypedDict):
    """A batch of raw patches.

    ``image`` is uint8 or uint16, shape (B, C, height, width), channels-last in memory; ``label``
    is int64, shape (B,); ``index`` is int64, shape (B,), positions in the store.
    """

    image: Tensor
    label: Tensor
    index: Tensor


class BatchSampler(DistributedSampler[tuple[int, Indices]], SequentialSampler):
    """Yields ``(epoch, indices)``, one whole batch at a time, for this rank.

    With shuffling, the order depends on the seed and the epoch only, and the last patches are left
    out of the epoch if they do not fill a batch on every rank. Without shuffling, the ranks
    together visit every patch exactly once, so that metrics are exact. Every rank gets the same
    number of batches, because collective operations need equal numbers.

    The class is a ``DistributedSampler``, so Lightning does not replace it and sets its epoch. The
    class is a ``SequentialSampler``, so ``--trainer.overfit_batches`` does not replace it either.
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
            batch_size: Patches per batch and rank.
            shuffle: Whether to shuffle every epoch (training).
            seed: Seed of the shuffle.
            ranks: Number of processes.
            rank: Number of this process, from 0.

        Raises:
            SplitError: There are fewer patches than processes.
        """
        if len(indices) < ranks:
            raise SplitError(
                f"{len(indices)} patches cannot be divided among {ranks} processes: train with "
                "fewer processes or with more patches"
            )
        super().__init__(
            indices,  # type: ignore[arg-type]  # only its length is used
            num_replicas=ranks,
            rank=rank,
            shuffle=shuffle,
            seed=seed,
        )
        self.position: Callable[[], tuple[int, int]] | None = None
        """Gives the epoch of the first iteration, and the number of batches that it leaves out
        because the training that is continued has taken them. Lightning may make an iterator
        before it restores the training, and takes the first batch afterwards."""
        self.indices = indices
        self.batch_size = min(batch_size, len(indices) // ranks if shuffle else len(indices))

    def __len__(self) -> int:
        """Number of batches that this rank gets in an epoch."""
        if self.shuffle:
            return len(self.indices) // (self.batch_size * self.num_replicas)
        batches = -(-len(self.indices) // (self.batch_size * self.num_replicas))
        # A batch holds at least one patch, so the rank with the fewest patches limits the number.
        # A rank with one patch more puts its last two patches into one batch.
        return min(batches, len(self.indices) // self.num_replicas)

    def __iter__(self) -> Iterator[tuple[int, Indices]]:  # type: ignore[override]
        """Yield this rank's batches of the current epoch."""
        taken = 0
        if self.position is not None:
            self.epoch, taken = self.position()
            self.position = None
        order = self.indices
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        own = order[self.rank :: self.num_replicas]
        # The other ranks may have one more batch than this rank's patches fill. The last patch
        # then makes the additional batch, so the start of the batch is clipped.
        starts = np.minimum(np.arange(len(self)) * self.batch_size, len(own) - 1)
        ends = [*starts[1:], starts[-1] + self.batch_size if self.shuffle else len(own)]
        for start, end in list(zip(starts, ends, strict=True))[taken:]:
            yield self.epoch, own[start:end]


class PatchDataset(Dataset[Batch]):
    """Gathers batches from the store's arrays and applies the augmentation, if there is one."""

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
            augmentation: The augmentation of every patch; None leaves the patches unchanged.
        """
        self.images = images
        self.labels = labels
        self.channels = channels
        self.augmentation = augmentation

    def __getstate__(self) -> dict[str, Any]:
        """Send a worker process the path of memory-mapped patches, not a copy of the patches."""
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


class PatchLoader(DataLoader[Batch]):
    """Asks the sampler and starts the workers when the first batch is taken.

    PyTorch's loader lets its workers gather batches as soon as there is an iterator, which may be
    before Lightning restores the training.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the batches of the sampler."""
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Tell Lightning that a training may be resumed within an epoch.

        The state is empty, because `BatchSampler.position` comes from the progress of the training.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take an empty state."""


def start_worker(_: int) -> None:
    """Leave the cores to the workers, and leave SIGTERM to the process of the training.

    The worker processes use all cores already; threads of OpenCV would slow the workers down.
    SLURM and timeout(1) terminate all processes of a run: a worker that ends first would be an
    error of the run. PyTorch terminates a worker that does not end, which a second SIGTERM does.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
