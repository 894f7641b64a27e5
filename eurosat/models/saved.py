"""Reading a checkpoint as data: a file chooses a registered backbone and its sizes, and no code.

Lightning's own reader passes every saved hyperparameter on, and obeys names of modules to import
(``_instantiator``, ``_class_path``). This module reads a checkpoint without them.
"""

import pickle
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules

from eurosat.bands import resolve_channels
from eurosat.errors import CheckpointError, EuroSATError
from eurosat.models.backbones import build_backbone

_Integer = Annotated[int, msgspec.Meta(ge=-65_536, le=65_536)]
_Text = Annotated[str, msgspec.Meta(max_length=1000)]
_Scalar = bool | _Integer | float | _Text | None
_Scalars = Annotated[list[_Scalar], msgspec.Meta(max_length=1000)]


class _Hyperparameters(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of `EuroSATClassifier` that a checkpoint may give; all of them are plain."""

    backbone: _Text
    bands: _Text | list[_Text]
    classes: Annotated[list[_Text], msgspec.Meta(min_length=1, max_length=10_000)]
    backbone_args: dict[_Text, _Scalar | _Scalars] | None = None
    patch_size: _Integer | None = None
    pretrained: bool = False


class SavedClassifier(NamedTuple):
    """What a checkpoint says of a classifier.

    Attributes:
        hyperparameters: Arguments of `EuroSATClassifier`; ``pretrained`` is False.
        weights: The state dict, mapped from the file.
    """

    hyperparameters: dict[str, Any]
    weights: dict[str, Tensor]


def load_content(path: Path) -> dict[str, Any]:
    """Load a checkpoint as weights only, and map the weights from the file.

    Raises:
        Exception: The file is damaged, compressed or no checkpoint; torch, pickle and zipfile raise
            errors of many types.
    """
    with zipfile.ZipFile(path) as archive:
        # torch.save never compresses, and a compressed entry could fill the memory.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("an entry of the file is compressed")
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(content, dict):
        raise ValueError("the file holds no mapping")
    return content


def read_saved(path: Path) -> SavedClassifier:
    """Read what a checkpoint says of its classifier.

    Raises:
        CheckpointError: The file is not a checkpoint of this project, has a hyperparameter that a
            checkpoint may not have, asks for a larger network than its weights fill, or has a
            weight that is NaN.
    """
    try:
        content = load_content(path)
        hyperparameters = _hyperparameters(content["hyper_parameters"])
        weights = _weights(content["state_dict"], path.stat().st_size)
        _check_size(hyperparameters, weights)
    except Exception as error:  # torch, pickle and zipfile raise errors of many types.
        raise CheckpointError(
            f"{path} is not a checkpoint of this project ({_reason(error)}): give a .ckpt file "
            "of a run"
        ) from error
    if any(bool(weight.isnan().any()) for weight in weights.values()):
        raise CheckpointError(
            f"{path} has weights that are NaN, because the training diverged: give a .ckpt file of "
            "a run that did not diverge"
        )
    return SavedClassifier(hyperparameters, weights)


def _reason(error: Exception) -> str:
    """Say in a few words why a file is not read; torch gives paragraphs of advice."""
    match error:
        case IsADirectoryError():
            return "it is a folder"
        case zipfile.BadZipFile() | RuntimeError():
            return "it is damaged, or of another format than torch's"
        case pickle.UnpicklingError():
            return "it holds objects of Python, which are never loaded"
        case KeyError():
            return f"it has no {error.args[0]}"
        case _:
            return f"{type(error).__name__}: {error}"


def _hyperparameters(content: Any) -> dict[str, Any]:
    found = msgspec.convert(content, _Hyperparameters)
    if found.pretrained:
        raise ValueError("the file asks for pretrained weights, and a checkpoint has its own")
    return msgspec.structs.asdict(found)


def _weights(content: Any, file_size: int) -> dict[str, Tensor]:
    """Check that a state dict holds tensors, which take no more memory than the file explains.

    A tensor may repeat one stored number without end. Two tensors may share their numbers, as tied
    layers do, so that the sum may exceed the size of the file.
    """
    if not isinstance(content, dict) or not all(isinstance(w, Tensor) for w in content.values()):
        raise ValueError("the state_dict holds something else than tensors")
    if any(weight.is_meta for weight in content.values()):
        raise ValueError("a weight has no numbers")
    size = sum(weight.numel() * weight.element_size() for weight in content.values())
    if size > 2 * file_size:
        raise ValueError(f"the weights claim {size} bytes, and the file has {file_size}")
    return content


def _check_size(hyperparameters: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Build the network without memory, and stop where it outgrows the checkpoint's weights.

    Of timm's backbones, none has more than 1.3 parameters and 3.3 modules per weight, nor more than
    1.2 numbers per stored number; non-persistent buffers, such as the indices of relative
    positions, and small networks need the constants.

    Raises:
        ValueError: The network is larger than the weights.
    """
    budget = _Budget(
        entries=10 * len(weights) + 1000,
        numbers=2 * sum(weight.numel() for weight in weights.values()) + 2**24,
    )
    # A plugin's backbone may need memory. Building the classifier tells what else is wrong.
    with budget, torch.device("meta"), suppress(EuroSATError):
        build_backbone(
            hyperparameters["backbone"],
            False,
            len(resolve_channels(hyperparameters["bands"])),
            len(hyperparameters["classes"]),
            hyperparameters["backbone_args"] or {},
        )
    if budget.exceeded:
        raise ValueError("the backbone and its arguments ask for more weights than the file has")


class _Budget:
    """Stops the building of a network that registers too many modules, parameters and buffers."""

    def __init__(self, *, entries: int, numbers: int) -> None:
        self._entries, self._numbers = entries, numbers
        self.exceeded = False

    def __enter__(self) -> None:
        self._hooks = [
            modules.register_module_module_registration_hook(self._spend),
            modules.register_module_parameter_registration_hook(self._spend),
            modules.register_module_buffer_registration_hook(self._spend),
        ]

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _spend(self, module: nn.Module, name: str, value: Any) -> None:
        self._entries -= 1
        self._numbers -= value.numel() if isinstance(value, Tensor) else 0
        self.exceeded = self._entries < 0 or self._numbers < 0
        if self.exceeded:
            raise ValueError("the network is larger than its weights")
