"""Weight files that a training starts from: of timm, of other programs and of this project."""

import logging
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from eurosat.bands import Channel, resolve_channels
from eurosat.downloads import first_line
from eurosat.errors import CheckpointError

_log = logging.getLogger(__name__)

_WRAPPERS = frozenset(
    {
        *("module", "model", "net", "network", "backbone", "encoder", "_orig_mod"),
        *("state_dict", "state_dict_ema", "model_ema", "model_state_dict", "teacher", "encoder_q"),
    }
)
"""First parts of names that programs put before names that timm converts to the backbone's own."""

_PREFERRED = ("state_dict_ema", "model_ema", "encoder_q", "teacher", "state_dict")
"""Parts of the name of the network to start from, where a file holds several whole networks.

timm prefers an average of the weights; MoCo evaluates the encoder of the queries (He et al., 2020),
and DINO the teacher (Caron et al., 2021).
"""

_STATISTICS = ("preprocess.mean", "preprocess.std")
"""Names of the normalisation in a checkpoint of this project."""


@dataclass(frozen=True)
class WeightFile:
    """The tensors of a weight file.

    Attributes:
        path: The file.
        tensors: Tensors by name; the name of a mapping stands before the names in the mapping.
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
        content = _load(path)
        tensors = dict(_named_tensors(content))
        if not tensors:
            raise ValueError("the file holds no tensors by name")
        statistics = [value for name, value in tensors.items() if name.endswith(_STATISTICS)]
        if not statistics:
            return WeightFile(path, tensors)
        mean, std = statistics[:2]  # an average of weights repeats them
        bands = content["hyper_parameters"]["bands"]
    except Exception as error:  # torch.load and safetensors raise errors of many types.
        objects = isinstance(error, pickle.UnpicklingError)
        reason = "it holds objects of Python, which are never loaded" if objects else None
        raise CheckpointError(
            f"pretrained weights cannot be loaded from {path} ({reason or first_line(error)}): "
            "pass a file of PyTorch or safetensors weights, or a .ckpt file of a run"
        ) from error
    return WeightFile(path, tensors, bands, (mean, std))


def _load(path: str) -> Any:
    """Load a file of either format, whatever its name is; safetensors begins with JSON."""
    with Path(path).open("rb") as file:
        if file.read(9)[8:] == b"{":
            return safetensors.torch.load_file(path)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


def _named_tensors(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Give the tensors of nested mappings with their names joined by dots."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from _named_tensors(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(content, Tensor):
        yield prefix, content


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
    heads = tuple(f"{head}." for head in _heads(plain))
    body = {
        own: value
        for own, value in plain.state_dict().items()
        if not own.startswith(heads) and not own.endswith("num_batches_tracked")
    }
    blocks = {child for child, _ in plain.named_children()}
    given = _network(file, body.keys(), blocks)
    given = {own: value for own, value in given.items() if not own.startswith(heads)}
    _check_values(file, name, given, body)
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
    missing = [own for own in result.missing_keys if own in body]
    surplus = [own for own in result.unexpected_keys if own.partition(".")[0] in blocks]
    count = f"{len(body) - len(missing)} of {len(body)} tensors of the body"
    if missing or surplus:
        differing = f"lacks {missing[0]}" if missing else f"has {surplus[0]}, which {name} lacks"
        raise _unfit(file, name, f"{count} were found, and the file {differing}")
    _log.info("loaded %s from %s; the classification layer is new", count, file.path)
    return model


def _network(file: WeightFile, body: Iterable[str], blocks: set[str]) -> dict[str, Tensor]:
    """Choose the tensors of one network, and remove what stands before their names.

    Args:
        file: The weights.
        body: Names of the tensors of the backbone.
        blocks: First parts of the names of the backbone's tensors.

    Raises:
        CheckpointError: The file holds several networks, and none of them is preferred.
    """
    names, found = set(body), Counter[str]()
    for full in file.tensors:
        parts = full.split(".")
        for count in range(len(parts)):
            if ".".join(parts[count:]) in names:
                found[".".join([*parts[:count], ""])] += 1
    most = max(found.values(), default=0)
    if 2 * most <= len(names):  # the names of another program, which timm converts
        chosen = _preferred(file.tensors)
        return {_unwrapped(full, blocks): file.tensors[full] for full in chosen}
    networks = [prefix for prefix, count in found.items() if count == most]
    prefix, *others = _preferred(networks)
    if others:
        several = ", ".join(each or "without a prefix" for each in networks)
        raise CheckpointError(
            f"{file.path} holds several networks ({several}): save the network to start from in a "
            "file of its own"
        )
    if len(networks) > 1:
        _log.info("of the networks in %s, %s is taken", file.path, prefix)
    return {
        full.removeprefix(prefix): value
        for full, value in file.tensors.items()
        if full.startswith(prefix)
    }


def _preferred(names: Iterable[str]) -> list[str]:
    """Choose the names of the preferred network, if a file holds it."""
    chosen = list(names)
    for part in _PREFERRED:
        chosen = [name for name in chosen if part in name.split(".")] or chosen
    return chosen


def _check_values(
    file: WeightFile, name: str, given: Mapping[str, Tensor], body: Mapping[str, Tensor]
) -> None:
    """Check that weights are finite floating-point numbers.

    Raises:
        CheckpointError: A tensor holds numbers of another kind, or a number that is not finite.
    """
    for own, value in given.items():
        if own not in body or not body[own].is_floating_point():
            continue
        if not value.is_floating_point():
            raise _unfit(file, name, f"{own} is of {value.dtype}, not of floating-point numbers")
        if not value.isfinite().all() and body[own].isfinite().all():
            raise CheckpointError(
                f"{file.path} holds numbers that are not finite ({own}), because the training of "
                "the weights diverged: pass another --model.pretrained"
            )


def _unfit(file: WeightFile, name: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"the weights of {file.path} do not fit {name} ({reason}): choose the --model.backbone, "
        "the --model.backbone_args and as many --data.bands as the file has, or another "
        "--model.pretrained"
    )


def heads_of(backbone: nn.Module) -> list[nn.Module]:
    """Give the classification layers of a timm model; distilled models have two."""
    heads = backbone.get_classifier()  # type: ignore[operator]  # timm's interface
    return list(heads) if isinstance(heads, tuple | list) else [heads]


def _heads(model: nn.Module) -> list[str]:
    """Names of the classification layers, including layers that help to train the others only."""
    heads = heads_of(model)
    listed = getattr(model, "pretrained_cfg", None) or {}
    others = listed.get("classifier") or ()
    names = [name for name, module in model.named_modules() if any(module is h for h in heads)]
    return [*names, *([others] if isinstance(others, str) else others)]


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
