"""Interfaces of a file format: a `Backend` runs model files, and a `Format` makes model files."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from eurosat.inference.card import ModelCard

if TYPE_CHECKING:
    from eurosat.models.predictor import Predictor

Probabilities = npt.NDArray[np.float32]
Patches = npt.NDArray[Any]
"""Raw pixels, uint8 or uint16, shape (B, C, size, size)."""

Features = npt.NDArray[np.float32]
"""Input of the model's last layer, shape (B, F)."""


class Output(NamedTuple):
    """What a model computes for patches.

    Attributes:
        probabilities: float32, shape (B, classes); every row sums to 1.
        features: Input of the last layer, float32, shape (B, F); None if the file does not give
            the features, because an older version of eurosat wrote the file, or because timm does
            not give the features of the backbone.
    """

    probabilities: Probabilities
    features: Features | None


def join_outputs(outputs: Sequence[Output]) -> Output:
    """Concatenate the outputs of several batches."""
    features = [output.features for output in outputs if output.features is not None]
    return Output(
        np.concatenate([output.probabilities for output in outputs]),
        np.concatenate(features) if len(features) == len(outputs) else None,
    )


Write = Callable[[Path, ModelCard], None]
"""Writes a model file with a card in its metadata, and the model file's companion files.

The card may be long, and a writer may be called again with another card.
"""

Build = Callable[["Predictor", ModelCard, Patches | None], Write]
"""Converts a checkpoint's model; see `Format.build`."""


class Model(Protocol):
    """A model that can classify patches."""

    @property
    def card(self) -> ModelCard:
        """The model's card."""

    def predict(self, patches: Patches) -> Probabilities:
        """Classify raw patches.

        Args:
            patches: Raw pixel values of the card's bands, with the card's dtype and shape
                (B, C, size, size); B may differ from call to call.

        Returns:
            Probabilities, float32, shape (B, classes), in a new array; every row sums to 1. A
            caller may keep the array, so no later call may write into it.
        """

    def run(self, patches: Patches) -> Output:
        """Classify raw patches, and give their features; otherwise as `predict`."""


class Backend(ABC):
    """Runs model files: the class describes the files, and an instance is an open file.

    Importing a backend's module must import neither torch nor the package that runs the files;
    both imports belong in the functions that need them. A model file must not run code.

    Attributes:
        suffix: Suffix of the model file, such as ``".onnx"``; no two backends share a suffix.
        companion_suffixes: Suffixes of the companion files, which belong to the model file and are
            in the same folder.
        install: Argument of `pip install` that installs the packages which run the files.
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
            path: An existing file whose name ends with `suffix`.
            device: ``"cpu"``, or ``"cuda"`` with or without a number, such as ``"cuda:1"``.
            threads: Number of threads that one call of `predict` may use.

        Raises:
            ModelFileError: The file is damaged or has no card, or the device is not available.
            ImportError: A package that runs the file is not installed.
        """

    @abstractmethod
    def predict(self, patches: Patches) -> Probabilities:
        """Classify raw patches; see `Model.predict`."""

    def run(self, patches: Patches) -> Output:
        """Classify raw patches, and give their features; a backend may give no features."""
        return Output(self.predict(patches), None)

    @classmethod
    def cuda_devices(cls) -> int:
        """Number of CUDA devices that the backend can use; it is called after opening a file."""
        return 0


@dataclass(frozen=True)
class Format:
    """Makes model files; ``eurosat export --format`` offers every registered format.

    Attributes:
        name: Name on the command line and in the card, such as ``"onnx-int8"``.
        summary: Description of the format, one line of ``eurosat export --help``.
        backend: The backend that runs the files.
        build: Converts a checkpoint's model. The function takes the model, in evaluation mode on
            the CPU, the checkpoint's card, and, for a format that is not exact, training patches
            that show the range of activations. It returns the function that writes the file.
        packages: Import names of the packages that make the files. The card lists their versions,
            and an export suppresses the messages of their loggers.
        exact: Whether the files compute the checkpoint's probabilities in float32. The parity gate
            compares probabilities if the format is exact, and accuracies if it is not.
        install: Argument of `pip install` that installs the packages which make the files.
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
        """End of the version of an approximate file, such as ``"-int8"`` for ``"onnx-int8"``."""
        return "" if self.exact else f"-{self.name.rpartition('-')[2]}"
