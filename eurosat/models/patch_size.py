"""Checks of the height and width of a model's patches."""

from typing import Any

import torch

from eurosat.errors import EuroSATError, PatchSizeError

UNRECORDED_PATCH_SIZE = 64
"""Height and width of the patches of a checkpoint that does not record them, in pixels."""


def check_patch_size(found: int, expected: int | None) -> None:
    """Check that patches have the size that a model takes.

    Raises:
        PatchSizeError: They have another size.
    """
    if found != expected:
        raise PatchSizeError(
            f"the data have patches of {found}x{found} pixels, and the model takes "
            f"{expected}x{expected}: give data with patches of the model's size, or train a new "
            "model on the data without --ckpt_path and --model.patch_size"
        )


def check_backbone(classifier: Any, size: int) -> None:
    """Classify one empty patch, because some backbones take one size or no small patches.

    Args:
        classifier: The `EuroSATClassifier`.
        size: Height and width of the data's patches in pixels.

    Raises:
        PatchSizeError: The backbone cannot take patches of this size.
        EuroSATError: The backbone does not give one logit per class.
    """
    # In the setup hook classifier.device is the device of the training already, but the weights
    # are not there yet.
    device = classifier.preprocess.mean.device
    patch = torch.zeros(1, len(classifier.preprocess.channels), size, size, device=device)
    training = classifier.training
    classifier.eval()
    try:
        with torch.no_grad():
            # Calling forward runs the backbone without compiling it for one patch.
            logits = classifier.backbone.forward(classifier.preprocess(patch))
    except Exception as error:
        raise PatchSizeError(
            f"backbone {classifier.hparams['backbone']} cannot take the data's patches of "
            f"{size}x{size} pixels ({error}): choose another --model.backbone, or set the "
            f"patch size in --model.backbone_args, such as {{img_size: {size}}}"
        ) from error
    finally:
        classifier.train(training)
    expected = (1, len(classifier.classes))
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if found != expected:
        raise EuroSATError(
            f"backbone {classifier.hparams['backbone']} gives {found} for a patch in place of "
            f"{expected}, the logits of the classes: correct --model.backbone_args, or choose "
            "another --model.backbone"
        )
