"""Weight files that a training starts from: of timm, of other programs and of this project."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn

from eurosat.bands import Channel, resolve_channels
from eurosat.errors import CheckpointError

_log = logging.getLogger(__name__)

_WRAPPERS = frozenset({"module", "model", "net", "network", "backbone", "encoder", "_orig_mod"})
"""First parts of names that programs put before the names of the backbone's own tensors."""

_OF_A_CLASSIFIER = "preprocess."
"""Start of the names of the normalisation in a checkpoint of this project."""


@dataclass(frozen=True)
class WeightFile:
    """The tensors of a weight file.

    Attributes:
        path: The file.
        tensors: Tensors by name, without the normalisation.
        bands: Bands of a checkpoint of this project; None for other files.
        statistics: Mean and standard deviation of a checkpoint of this project, float32, shape
            (1, C, 1, 1), in raw pixel values; None for other files.
    """

    path: str
    tensors: Mapping[str, Tensor]
    bands: str | Sequence[str] | None = None
    statistics: tuple[Tensor, Tensor] | None = None

    def check_channels(self, channels: Sequence[Channel]) -> None:
        """Check that a checkpoint of this project takes the bands of the new model.

        Raises:
            CheckpointError: The bands differ.
        """
        if self.bands is not None and tuple(resolve_channels(self.bands)) != tuple(channels):
            own = self.bands if isinstance(self.bands, str) else ", ".join(self.bands)
            raise CheckpointError(
                f"{self.path} is a checkpoint for the bands {own}, and this model takes "
                f"{', '.join(channel.name for channel in channels)}: train with the bands of the "
                "checkpoint (--data.bands), or start from another file"
            )


def read_weights(path: str) -> WeightFile:
    """Read a weight file, which cannot run code.

    Args:
        path: A file of PyTorch or of safetensors: the tensors by name, or a checkpoint that holds
            them, such as a ``.ckpt`` file of a run.

    Raises:
        CheckpointError: There is no such file, or the file holds no tensors.
    """
    if not Path(path).is_file():
        raise CheckpointError(
            f"there is no weight file {path}: pass --model.pretrained <weights file>, or "
            "--model.pretrained true for timm's published weights"
        )
    try:
        content: dict[str, Any] = load_state_dict(path)
        tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        if not tensors:
            raise ValueError("the file holds no tensors by name")
        mean, std = (tensors.get(f"{_OF_A_CLASSIFIER}{name}") for name in ("mean", "std"))
        if mean is None or std is None:
            return WeightFile(path, tensors)
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        bands = saved["hyper_parameters"]["bands"]
    except Exception as error:  # torch.load and safetensors raise errors of many types.
        raise CheckpointError(
            f"pretrained weights cannot be loaded from {path} ({type(error).__name__}: {error}): "
            "pass a file of PyTorch or safetensors weights, or a .ckpt file of a run"
        ) from error
    body = {name: value for name, value in tensors.items() if not name.startswith(_OF_A_CLASSIFIER)}
    return WeightFile(path, body, bands, (mean, std))


def build_from(file: WeightFile, name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a timm model with the weights of a file and a new classification layer.

    timm converts the names and shapes of other programs, and adapts the first convolution to the
    number of channels and the position embeddings to the size of the patches.

    Args:
        file: The weights.
        name: Name of the timm model.
        arguments: Arguments of `timm.create_model`.

    Raises:
        CheckpointError: The file lacks tensors of the body, or has more layers than the body.
    """
    plain: nn.Module = timm.create_model(name, **arguments)
    blocks = {child for child, _ in plain.named_children()}
    heads = tuple(f"{head}." for head in _heads(plain))
    body = [own for own in plain.state_dict() if not own.startswith(heads)]
    tensors = {_unwrapped(full, blocks): value for full, value in file.tensors.items()}
    given = {own: value for own, value in tensors.items() if not own.startswith(heads)}
    # timm would download weights in place of an empty dictionary.
    given = given or {"nothing": torch.empty(0)}
    try:
        with _recorded_loads() as loads:
            model: nn.Module = timm.create_model(
                name,
                pretrained=True,
                # With a number of classes other than the model's, timm accepts a missing head.
                pretrained_cfg_overlay={"state_dict": given, "num_classes": 0},
                **arguments,
            )
    except Exception as error:  # timm's conversions raise errors of many types.
        reason = " ".join(str(error).replace(":\n\t", ": ").partition("\n")[0].split())
        raise _unfit(file, name, f"{type(error).__name__}: {reason}") from error
    for settings in (model.pretrained_cfg, model.default_cfg):
        cast(dict[str, Any], settings).pop("state_dict", None)
    (result,) = loads
    missing = [
        own
        for own in result.missing_keys
        if not own.startswith(heads) and not own.endswith("num_batches_tracked")
    ]
    surplus = [own for own in result.unexpected_keys if own.partition(".")[0] in blocks]
    count = f"{len(body) - len(missing)} of {len(body)} tensors of the body"
    if missing or surplus:
        differing = f"lacks {missing[0]}" if missing else f"has {surplus[0]}, which {name} lacks"
        raise _unfit(file, name, f"{count} were found, and the file {differing}")
    _log.info("loaded %s from %s; the classification layer is new", count, file.path)
    return model


def _unfit(file: WeightFile, name: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"the weights of {file.path} do not fit {name} ({reason}): choose the --model.backbone and "
        "the --model.backbone_args of the file, or another --model.pretrained"
    )


def heads_of(backbone: nn.Module) -> list[nn.Module]:
    """Give the classification layers of a timm model; distilled models have two."""
    heads = backbone.get_classifier()  # type: ignore[operator]  # timm's interface
    return list(heads) if isinstance(heads, tuple | list) else [heads]


def _heads(model: nn.Module) -> list[str]:
    """Names of the classification layers."""
    heads = heads_of(model)
    return [name for name, module in model.named_modules() if any(module is h for h in heads)]


def _unwrapped(name: str, blocks: set[str]) -> str:
    """Remove wrappers from the start of a name, until a block of the model itself comes first."""
    first, _, rest = name.partition(".")
    while rest and first in _WRAPPERS and first not in blocks:
        name = rest
        first, _, rest = name.partition(".")
    return name


@contextmanager
def _recorded_loads() -> Iterator[list[Any]]:
    """Record the results of `load_state_dict`, which timm only logs."""
    load, results = nn.Module.load_state_dict, []

    def recorded(*arguments: Any, **options: Any) -> Any:
        results.append(load(*arguments, **options))
        return results[-1]

    nn.Module.load_state_dict = recorded  # type: ignore[method-assign]
    try:
        yield results
    finally:
        nn.Module.load_state_dict = load  # type: ignore[method-assign]
