"""Backbones: every timm model, and PatchNet."""

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

import timm
from torch import nn

import eurosat.models.patchnet  # noqa: F401  # registers PatchNet with timm
from eurosat.downloads import cached_files, downloading, refuse_damaged
from eurosat.errors import CheckpointError, EuroSATError
from eurosat.models.weights import WeightFile, build_from
from eurosat.plugins import load_plugins

ENTRY_POINTS = "eurosat.backbones"
"""Group of the entry points that name modules that register further models with timm."""

_OWN = ("in_chans", "num_classes", "features_only")
"""Arguments of timm's models that the classifier sets."""

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
        EuroSATError: timm has no such model, an argument would load weights or set the channels or
            the classes, or the model cannot be built.
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
    if own := [name for name in arguments if name in _OWN]:
        raise EuroSATError(
            f"backbone_args must not set {', '.join(own)}, because the classifier sets the "
            "channels and the classes: leave it out, and choose --data.bands and --data.classes"
        )
    settings = {"in_chans": channels, "num_classes": classes, **arguments}
    try:
        if isinstance(pretrained, WeightFile):
            return build_from(pretrained, name, settings)
        if pretrained:
            return _with_published_weights(name, settings)
        model: nn.Module = timm.create_model(name, **settings)
        return model
    except EuroSATError:
        raise
    except Exception as error:
        raise EuroSATError(
            f"backbone {name} cannot be built ({error}): correct --model.backbone_args, or "
            "choose another --model.backbone"
        ) from error


def _with_published_weights(name: str, settings: Mapping[str, Any]) -> nn.Module:
    """Build a timm model with the weights that timm publishes on the Hugging Face hub.

    Raises:
        CheckpointError: There are no such weights, or they cannot be downloaded or are damaged.
    """
    published = timm.get_pretrained_cfg(name, allow_unregistered=True)
    otherwise = (
        "pass a local file with --model.pretrained <weights file>, or train from scratch with "
        "--model.pretrained false"
    )
    if published is None or not published.has_weights:
        raise CheckpointError(f"timm publishes no weights of {name}: {otherwise}")
    repository = (published.hf_hub_id or "").partition("@")[0]
    with downloading(f"the weights of {name}", CheckpointError, otherwise):
        try:
            model: nn.Module = timm.create_model(name, pretrained=True, **settings)
        finally:  # A damaged file can make timm fail.
            if repository:
                refuse_damaged(cached_files("models", repository))
    return model
