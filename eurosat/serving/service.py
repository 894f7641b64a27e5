"""The classification of uploaded images, for the routes of every protocol."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.exceptions import HTTPException
from starlette.requests import Request

from eurosat.errors import DataSourceError
from eurosat.inference.backend import Patches, Probabilities
from eurosat.inference.card import ModelCard
from eurosat.inference.pictures import Picture, read_picture
from eurosat.serving import metrics
from eurosat.serving.dispatcher import Dispatcher, ModelFailedError, WorkerLostError
from eurosat.serving.limits import Limits
from eurosat.serving.saliency import occlusions, saliency

_log = logging.getLogger(__name__)

_INLINE_BYTES = 64 * 1024
"""Largest total size of uploads that are decoded without a thread.

Small files are decoded within a fraction of a millisecond, and a thread would cost more time. A
JPEG of one EuroSAT patch has 2 to 6 KB, and a GeoTIFF has 107 KB.
"""

MAX_PATCHES = 1024
"""Largest number of patches in a request, tiles included.

Patches of 64x64 pixels then take 12 MiB as RGB, and 104 MiB with 13 bands.
"""


@dataclass(frozen=True)
class Upload:
    """An uploaded image file; ``name`` comes from the caller and is only used in answers."""

    name: str
    data: bytes


class Service:
    """The classification of images; every API process has one service.

    The routes of all protocols take their predictions from `probabilities`, `classify` or
    `explain`. Only these methods reach the workers, and all of them call `observe`, so that the
    predictions of a new protocol are observed as well.
    """

    def __init__(self, card: ModelCard, dispatcher: Dispatcher, limits: Limits) -> None:
        """Build the service.

        Args:
            card: The model's card.
            dispatcher: The sender of patches to the workers.
            limits: The limits of the service.
        """
        self.card = card
        self.limits = limits
        self._dispatcher = dispatcher

    @property
    def ready(self) -> bool:
        """Whether a worker can answer."""
        return self._dispatcher.ready

    async def read(self, uploads: Sequence[Upload | str], *, tiles: bool) -> list[Picture | str]:
        """Decode uploads.

        Args:
            uploads: The image files; a string is the reason why an image file is missing.
            tiles: Cut images that are larger than a patch into tiles instead of resizing them.

        Returns:
            For each upload its picture, or the reason why the upload cannot be read.

        Raises:
            HTTPException: There are no uploads (422), or too many images or tiles (413).
        """
        if not uploads:
            raise HTTPException(422, "the request holds no image: send at least one image")
        if len(uploads) > self.limits.max_images:
            raise HTTPException(
                413,
                f"the request holds {len(uploads)} images, and at most {self.limits.max_images} "
                "are accepted: send the images in several requests",
            )

        def decode_all() -> list[Picture | str]:
            pictures, patches = [], 0
            for upload in uploads:
                pictures.append(picture := self._read_one(upload, tiles))
                patches += len(picture.patches) if isinstance(picture, Picture) else 0
                if patches > MAX_PATCHES:
                    raise HTTPException(
                        413,
                        f"the images have more than {MAX_PATCHES} tiles in total: send the images "
                        "in several requests",
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

    async def probabilities(
        self, request: Request, images: Sequence[Patches]
    ) -> list[Probabilities]:
        """Classify images.

        Args:
            request: The request that holds the images.
            images: The patches of every image, each uint8 or uint16, shape (N, C, size, size);
                an image that was not cut into tiles has one patch.

        Returns:
            For each image the probabilities of its patches, float32, shape (N, classes).

        Raises:
            HTTPException: Two workers exited (503) or the model failed (500).
        """
        found = await self._predict(images[0] if len(images) == 1 else np.concatenate(images))
        ends = np.cumsum([len(patches) for patches in images])
        probabilities = np.split(found, ends[:-1])
        self.observe(request, images, probabilities)
        return probabilities

    async def explain(
        self, request: Request, picture: Picture
    ) -> tuple[dict[str, Any], npt.NDArray[np.float32]]:
        """Classify one picture of one patch, and compute its saliency map.

        Returns:
            The prediction, as in `classify`, and the map of `saliency`.

        Raises:
            HTTPException: As `probabilities`.
        """
        found = await self._predict(occlusions(picture.patches[0]))
        probabilities = found[:1]  # the copies with a window are no predictions
        self.observe(request, [picture.patches], [probabilities])
        return self._describe(picture, probabilities), saliency(found, self.card.patch_size)

    def observe(
        self, request: Request, images: Sequence[Patches], probabilities: Sequence[Probabilities]
    ) -> None:
        """Record the predictions of one request, whatever its protocol, in the metrics and the log.

        Args:
            request: The request; ``request.state`` has its ``id`` and the path of its ``route``.
            images: The patches of every image, each uint8 or uint16, shape (N, C, size, size).
            probabilities: The probabilities of every image's patches, each float32, shape
                (N, classes). An image's prediction is the mean over its patches.
        """
        for rows in probabilities:
            prediction = rows.mean(axis=0)
            label = self.card.classes[int(prediction.argmax())]
            metrics.PREDICTIONS.labels(label).inc()
            metrics.CONFIDENCE.observe(float(prediction.max()))
        state = request.state
        _log.debug("request %s to %s: %d images classified", state.id, state.route, len(images))

    async def _predict(self, patches: Patches) -> Probabilities:
        """Compute the probabilities of patches, and turn failures into HTTP errors."""
        try:
            return await self._dispatcher.predict(patches)
        except WorkerLostError as error:
            raise HTTPException(
                503, "two workers exited over this request: try again in 5 s", {"Retry-After": "5"}
            ) from error
        except ModelFailedError as error:
            raise HTTPException(
                500, "the model failed: look up the reason in the service's log"
            ) from error

    async def classify(
        self, request: Request, uploads: Sequence[Upload | str], *, tiles: bool = False
    ) -> list[dict[str, Any]]:
        """Classify uploads.

        Args:
            request: The request that holds the uploads.
            uploads: The image files; a string is the reason why an image file is missing.
            tiles: Cut images that are larger than a patch into tiles instead of resizing them.

        Returns:
            For each upload its ``label`` and ``probabilities``, with ``tiles`` if the image was
            cut into tiles; or the ``error`` of an upload that cannot be read.

        Raises:
            HTTPException: No image can be read (422), or as `read` and `probabilities`.
        """
        pictures = await self.read(uploads, tiles=tiles)
        readable = [picture for picture in pictures if isinstance(picture, Picture)]
        if not readable:
            raise HTTPException(422, "; ".join(str(picture) for picture in pictures))
        found = iter(await self.probabilities(request, [picture.patches for picture in readable]))
        return [
            {"error": picture} if isinstance(picture, str) else self._describe(picture, next(found))
            for picture in pictures
        ]

    def _describe(self, picture: Picture, probabilities: Probabilities) -> dict[str, Any]:
        """Describe the prediction of one image; ``probabilities`` has shape (N, classes)."""
        answer = self._label(probabilities.mean(axis=0))
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
    """Decode an upload from base64, or return the reason why the text is not base64."""
    try:
        return Upload(name, base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        return f"{name} is not base64 ({error}): encode the image file in base64"
