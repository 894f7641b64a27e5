"""What a file format has to bring: a `Backend` that runs its files, a `Format` that makes them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from eurosat.inference.card import ModelCard

if TYPE_CHECKING:
    from eurosat.models.predictor import Predictor

Probabilities = npt.NDArray[np.float32]
Patches = npt.NDArray[Any]
"""Raw pixels, uint8 or uint16, shape (B, C, size, size)."""

Write = Callable[[Path, ModelCard], None]
"""Writes a model file, and its companion files, with a card in its metadata.

The card may be long; a writer may be called again with another card.
"""

Build = Callable[["Predictor", ModelCard, Patches | None], Write]
"""Converts a checkpoint's model; see `Format.build`."""


class Model(Protocol):
    """A model that is ready to answer."""

    @property
    def card(self) -> ModelCard:
        """What the model is."""

    def predict(self, patches: Patches) -> Probabilities:
        """Classify raw patches.

        Args:
            patches: Raw pixel values of the card's bands, of the card's type, shape
                (B, C, size, size); B may differ from call to call.

        Returns:
            Probabilities, float32, shape (B, classes), rows summing to 1.
        """


class Backend(ABC):
    """A way of running model files: the class describes the files, an instance is an open file.

    Importing a backend's module must import neither torch nor the package that runs the files;
    both imports belong into the functions that need them. No file may run code of its own.

    Attributes:
        suffix: Ending of the model file, such as ``".onnx"``; no two backends share an ending.
        companion_suffixes: Endings of the files that lie beside the model file and belong to it.
        install: What `pip install` takes so that the files run.
        card: The card in the open file.
    """

    suffix: ClassVar[str]
    companion_suffixes: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str]
    card: ModelCard

    @abstractmethod
    def __init__(self, path: Path, *, device: str, threads: int) -> None:
        """Open a file.

        Args:
            path: A file that exists and ends in `suffix`.
            device: ``"cpu"``, or ``"cuda"`` with or without a number, such as ``"cuda:1"``.
            threads: Threads that one call of `predict` may use.

        Raises:
            ModelFileError: The file is damaged or has no card, or the device cannot be used.
            ImportError: A package that runs the file is not installed.
        """

    @abstractmethod
    def predict(self, patches: Patches) -> Probabilities:
        """Classify raw patches; see `Model.predict`."""

    @classmethod
    def cuda_devices(cls) -> int:
        """Number of CUDA devices that the backend can use; it is asked after a file was opened."""
        return 0


@dataclass(frozen=True)
class Format:
    """A way of making model files, which ``eurosat export --format`` offers.

    Attributes:
        name: Name on the command line and in the card, such as ``"onnx-int8"``.
        summary: What the format is, in a line of ``eurosat export --help``.
        backend: The backend that runs the files.
        build: Converts a checkpoint's model. Its arguments are the model, in evaluation mode on the
            CPU, the checkpoint's card, and, for a format that is not exact, training patches that
            show the range of activations. It gives the function that writes the file.
        packages: Import names of the packages that make the files; the card lists their versions.
        exact: Whether the files compute what the checkpoint computes, in float32. The parity gate
            compares probabilities if so, and accuracies if not.
        install: What `pip install` takes so that the files can be made.
    """

    name: str
    summary: str
    backend: type[Backend]
    build: Build
    packages: tuple[str, ...]
    exact: bool = True
    install: str = "eurosat[export]"

    @property
    def version_suffix(self) -> str:
        """What sets the version of an approximate file apart: ``"-int8"`` of ``"onnx-int8"``."""
        return "" if self.exact else f"-{self.name.rpartition('-')[2]}"
