"""Backbones: every timm model, and PatchNet."""

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

import timm
from torch import nn

import eurosat.models.patchnet  # noqa: F401  # registers PatchNet with timm
from eurosat.errors import CheckpointError, EuroSATError
from eurosat.models.weights import WeightFile, build_from
from eurosat.plugins import load_plugins

ENTRY_POINTS = "eurosat.backbones"
"""Group of the entry points that name modules that register further models with timm."""

_LOADING = ("cache_dir", "checkpoint_path")
"""Arguments of timm's models that load files, beside those whose names begin with pretrained."""


@cache
def _load() -> None:
    load_plugins(ENTRY_POINTS)


def build_backbone(
    name: str,
    pretrained: bool | WeightFile,
    channels: int,
    classes: int,
    arguments: Mapping[str, Any],
) -> nn.Module:
    """Build a timm model, with or without pretrained weights.

    Args:
        name: Name of a timm model, or ``"patchnet"``.
        pretrained: True for timm's published weights, or the weights of a file.
        channels: Number of input channels.
        classes: Number of classes.
        arguments: Further arguments of the timm model; none of them may load weights.

    Raises:
        EuroSATError: timm has no such model, an argument would load weights, or the model cannot be
            built.
        CheckpointError: The pretrained weights cannot be loaded.
    """
    _load()
    if not timm.is_model(name.split(".")[0]):
        close = difflib.get_close_matches(name, timm.list_models(), n=4)
        raise EuroSATError(
            f"timm has no model '{name}': choose "
            + (" or ".join(close) or "a name that timm.list_models() lists")
        )
    loading = [name for name in arguments if name.startswith("pretrained") or name in _LOADING]
    if loading:
        raise EuroSATError(
            f"backbone_args must not load weights, and {', '.join(loading)} would: leave it out, "
            "and pass --model.pretrained <weights file>"
        )
    settings = {"in_chans": channels, "num_classes": classes, **arguments}
    try:
        if isinstance(pretrained, WeightFile):
            return build_from(pretrained, name, settings)
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **settings)
        return model
    except EuroSATError:
        raise
    except Exception as error:
        if not pretrained:
            raise EuroSATError(
                f"backbone {name} cannot be built ({error}): correct --model.backbone_args, or "
                "choose another --model.backbone"
            ) from error
        source = pretrained.path if isinstance(pretrained, WeightFile) else "the model hub"
        raise CheckpointError(
            f"pretrained weights of {name} cannot be loaded from {source} "
            f"({type(error).__name__}: {error}): pass a local file with --model.pretrained "
            "<weights file>, or train from scratch with --model.pretrained false"
        ) from error
