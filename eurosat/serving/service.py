"""What the routes have in common: the model's card, the dispatcher, and answers in words."""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from eurosat.errors import DataSourceError
from eurosat.inference.card import ModelCard
from eurosat.inference.pictures import Picture, read_picture
from eurosat.inference.runtime import Patches, Probabilities
from eurosat.serving import metrics
from eurosat.serving.dispatcher import Dispatcher, ModelFailedError, WorkerLostError
from eurosat.serving.guard import Limits

_INLINE_BYTES = 64 * 1024
"""Files that are decoded within a fraction of a millisecond are not worth a thread; a JPEG of one
patch has 2 to 6 KB, a GeoTIFF 107 KB."""

MAX_PATCHES = 1024
"""Patches of one request, tiles included: 12 MiB of RGB, 104 MiB of 13 bands."""


@dataclass(frozen=True)
class Upload:
    """An image file as it came; ``name`` is only ever repeated to whoever sent it."""

    name: str
    data: bytes


class Service:
    """Classifies uploads; one in every API process."""

    def __init__(self, card: ModelCard, dispatcher: Dispatcher, limits: Limits) -> None:
        """Take the parts."""
        self.card = card
        self.dispatcher = dispatcher
        self.limits = limits

    async def read(self, uploads: Sequence[Upload | str], *, tiles: bool) -> list[Picture | str]:
        """Decode uploads; the reason why there is none stands for one that is missing.

        Returns:
            For each upload its patches, or the reason why it cannot be read.

        Raises:
            HTTPException: There is none (422), or there are too many, or too many tiles (413).
        """
        if not uploads:
            raise HTTPException(422, "the request holds no image")
        if len(uploads) > self.limits.max_images:
            raise HTTPException(
                413,
                f"{len(uploads)} images in one request, at most {self.limits.max_images} are "
                "taken: send them in several requests",
            )

        def decode_all() -> list[Picture | str]:
            pictures, patches = [], 0
            for upload in uploads:
                pictures.append(picture := self._read_one(upload, tiles))
                patches += len(picture.patches) if isinstance(picture, Picture) else 0
                if patches > MAX_PATCHES:
                    raise HTTPException(
                        413,
                        f"the images have more than {MAX_PATCHES} tiles together: send them in "
                        "several requests",
                    )
            return pictures

        if (
            sum(len(upload.data) for upload in uploads if isinstance(upload, Upload))
            > _INLINE_BYTES
        ):
            return await asyncio.to_thread(decode_all)
        return decode_all()

    def _read_one(self, upload: Upload | str, tiles: bool) -> Picture | str:
        if isinstance(upload, str):
            metrics.REJECTED.inc()
            return upload
        try:
            return read_picture(upload.data, upload.name, self.card, tiles=tiles)
        except DataSourceError as error:
            metrics.REJECTED.inc()
            return str(error)

    async def probabilities(self, patches: Patches) -> Probabilities:
        """Probabilities of patches, errors as HTTP has them.

        Raises:
            HTTPException: The workers were lost (503) or the model failed (500).
        """
        try:
            return await self.dispatcher.predict(patches)
        except WorkerLostError as error:
            raise HTTPException(
                503, "the workers died over this request: try again", {"Retry-After": "5"}
            ) from error
        except ModelFailedError as error:
            raise HTTPException(
                500, "the model failed; the service's log has the reason"
            ) from error

    async def classify(
        self, uploads: Sequence[Upload | str], *, tiles: bool = False
    ) -> list[dict[str, Any]]:
        """Classify uploads.

        Returns:
            For each upload its ``label`` and ``probabilities``, with ``tiles`` if it was cut; or
            the ``error`` that keeps it from being read.

        Raises:
            HTTPException: No image can be read (422), or as `read` and `probabilities`.
        """
        pictures = await self.read(uploads, tiles=tiles)
        readable = [picture for picture in pictures if isinstance(picture, Picture)]
        if not readable:
            raise HTTPException(422, "; ".join(str(picture) for picture in pictures))
        found = await self.probabilities(
            readable[0].patches
            if len(readable) == 1
            else np.concatenate([picture.patches for picture in readable])
        )
        answers, start = [], 0
        for picture in pictures:
            if isinstance(picture, str):
                answers.append({"error": picture})
            else:
                end = start + len(picture.patches)
                answers.append(self.describe(picture, found[start:end]))
                start = end
        return answers

    def describe(self, picture: Picture, probabilities: Probabilities) -> dict[str, Any]:
        """One image's answer in words, from its patches' probabilities, shape (N, classes)."""
        answer = self._label(probabilities.mean(axis=0))
        metrics.PREDICTIONS.labels(answer["label"]).inc()
        metrics.CONFIDENCE.observe(max(answer["probabilities"].values()))
        if picture.corners is not None:
            answer["tiles"] = [
                {"x": x, "y": y, **self._label(row)}
                for (x, y), row in zip(picture.corners, probabilities, strict=True)
            ]
        return answer

    def _label(self, probabilities: Probabilities) -> dict[str, Any]:
        return {
            "label": self.card.classes[int(probabilities.argmax())],
            "probabilities": {
                name: round(value, 6)
                for name, value in zip(self.card.classes, probabilities.tolist(), strict=True)
            },
        }


def from_base64(text: str, name: str) -> Upload | str:
    """An upload from base64, or the reason why it is none."""
    try:
        return Upload(name, base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        return f"{name} is not base64 ({error})"
