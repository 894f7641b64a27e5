"""The classification of uploaded images, for the routes of every protocol."""

import asyncio
import binascii
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.exceptions import HTTPException
from starlette.requests import Request

from eurosat.errors import DataSourceError
from eurosat.image_header import check_header, read_header
from eurosat.inference.backend import Output, Patches, Probabilities
from eurosat.inference.card import ModelCard
from eurosat.inference.pictures import Picture
from eurosat.monitoring.log.recorder import Recorder
from eurosat.monitoring.observation import Observation, observe_output
from eurosat.monitoring.reference import Reference
from eurosat.serving import metrics
from eurosat.serving.decoder import Decoder, Upload
from eurosat.serving.dispatcher import Dispatcher, ModelFailedError, WorkerLostError
from eurosat.serving.limits import Limits
from eurosat.serving.saliency import occlusions, saliency

_log = logging.getLogger(__name__)

_INLINE_PATCHES = 16
"""Largest number of patches that are compared with the reference without a thread."""

_BASE64_PIECE = 64 * 1024
"""Length of the pieces in which base64 is decoded, because a piece holds the interpreter's lock.

Four characters encode three bytes, so the length is a multiple of four.
"""

_REASONS = 3
"""Largest number of images whose reasons are in the message of an answer."""

MAX_PATCHES = 1024
"""Largest number of patches in a request, tiles included."""

MAX_PATCH_BYTES = 32 * 2**20
"""Bytes of the patches of a request; 315 patches of 64x64 pixels and 13 bands are not more."""

MAX_DECODED_BYTES = 256 * 2**20
"""Bytes of the pixels of a request's images before they are resized, as their headers say."""

MAX_WAITING_BYTES = 256 * 2**20
"""Bytes of the patches of all requests of an API process that wait for a worker."""


class Service:
    """The classification of images; every API process has one service.

    The routes of all protocols take their predictions from `predict`, `classify` or
    `explain`. Only these methods reach the workers, and all of them call `observe`, so that the
    predictions of a new protocol are observed as well.
    """

    def __init__(
        self,
        card: ModelCard,
        decoder: Decoder,
        dispatcher: Dispatcher,
        limits: Limits,
        reference: Reference | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """Build the service.

        Args:
            card: The model's card.
            reference: The model's reference, by which images are scored; None for no scores.
            decoder: The decoder of uploads.
            dispatcher: The sender of patches to the workers.
            limits: The limits of the service.
            recorder: The prediction log's recorder; None if predictions are not logged.
        """
        self.card = card
        self.reference = reference
        self.limits = limits
        self._decoder = decoder
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._waiting_bytes = 0
        patch_bytes = math.prod(card.shape) * np.dtype(card.dtype).itemsize
        self._max_patches = min(MAX_PATCHES, max(MAX_PATCH_BYTES // patch_bytes, 1))

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
        if len(uploads) > 1:  # a lone image has a limit of its own
            self._check_decoded_bytes(uploads)
        pictures: list[Picture | str] = []
        patches = 0
        with metrics.STAGE_DURATION.labels("decode").time():
            for upload in uploads:
                pictures.append(picture := await self._read_one(upload, tiles))
                patches += len(picture.patches) if isinstance(picture, Picture) else 0
                if patches > self._max_patches:
                    raise HTTPException(
                        413,
                        f"the images have more than {self._max_patches} tiles in total: send the "
                        "images in several requests",
                    )
        return pictures

    def _check_decoded_bytes(self, uploads: Sequence[Upload | str]) -> None:
        total = sum(_decoded_bytes(upload) for upload in uploads if isinstance(upload, Upload))
        if total > MAX_DECODED_BYTES:
            raise HTTPException(
                413,
                f"the images have {total // 2**20} MiB of pixels in total, and the limit is "
                f"{MAX_DECODED_BYTES // 2**20} MiB: send the images in several requests",
            )

    async def _read_one(self, upload: Upload | str, tiles: bool) -> Picture | str:
        if isinstance(upload, str):
            metrics.REJECTED.inc()
            return upload
        try:
            return await self._decoder.read(upload, tiles=tiles)
        except DataSourceError as error:
            metrics.REJECTED.inc()
            return str(error)

    async def predict(self, request: Request, images: list[Patches]) -> list[Observation]:
        """Classify images, and observe the predictions.

        Args:
            request: The request that holds the images.
            images: The patches of every image, each uint8 or uint16, shape (N, C, size, size);
                an image that was not cut into tiles has one patch.

        Returns:
            The observation of each image.

        Raises:
            HTTPException: Two workers exited (503) or the model failed (500).
        """
        output = await self._predict(images[0] if len(images) == 1 else np.concatenate(images))
        observations = await self._compare(images, output)
        self.observe(request, observations)
        return observations

    async def explain(
        self, request: Request, picture: Picture
    ) -> tuple[dict[str, Any], npt.NDArray[np.float32]]:
        """Classify one picture of one patch, and compute its saliency map.

        Returns:
            The prediction, as in `classify`, and the map of `saliency`.

        Raises:
            HTTPException: As `predict`.
        """
        output = await self._predict(occlusions(picture.patches[0]))
        # The copies with a window are no predictions.
        first = Output(
            output.probabilities[:1], None if output.features is None else output.features[:1]
        )
        observations = await self._compare([picture.patches], first)
        self.observe(request, observations)
        found = saliency(output.probabilities, self.card.patch_size)
        return self._describe(picture, observations[0]), found

    async def render(self, upload: Upload) -> Patches:
        """Render an upload in red, green and blue; see `Decoder.render`."""
        return await self._decoder.render(upload)

    async def _compare(self, images: list[Patches], output: Output) -> list[Observation]:
        """Compare images with the reference; many patches are compared in a thread."""
        arguments = (images, output, self.card.bands, self.reference)
        if len(output.probabilities) > _INLINE_PATCHES:
            return await asyncio.to_thread(observe_output, *arguments)
        return observe_output(*arguments)

    def observe(self, request: Request, observations: Sequence[Observation]) -> None:
        """Record the predictions of one request, whatever its protocol, in the metrics and the log.

        Args:
            request: The request; ``request.state`` has its ``id`` and the path of its ``route``.
            observations: The observation of every image.
        """
        for observation in observations:
            score = observation.ood_score
            flagged = self.ood(score)
            metrics.observe_image(
                self.card.classes,
                observation.prediction,
                None if score is None or flagged is None else (score, flagged["flag"]),
            )
        state = request.state
        if self._recorder is not None:
            self._recorder.record(
                id=state.id, route=state.route, started=state.started, observations=observations
            )
        _log.debug(
            "request %s to %s: %d images classified", state.id, state.route, len(observations)
        )

    async def _predict(self, patches: Patches) -> Output:
        """Compute the output for patches, and turn failures into HTTP errors."""
        if self._waiting_bytes + patches.nbytes > MAX_WAITING_BYTES:
            raise HTTPException(
                503,
                f"{self._waiting_bytes // 2**20} MiB of patches wait for a worker: try again in "
                "1 s",
                {"Retry-After": "1"},
            )
        self._waiting_bytes += patches.nbytes
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
        finally:
            self._waiting_bytes -= patches.nbytes

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
            HTTPException: No image can be read (422), or as `read` and `predict`.
        """
        pictures = await self.read(uploads, tiles=tiles)
        readable = [picture for picture in pictures if isinstance(picture, Picture)]
        if not readable:
            raise HTTPException(422, join_reasons([str(picture) for picture in pictures]))
        found = iter(await self.predict(request, [picture.patches for picture in readable]))
        return [
            {"error": picture} if isinstance(picture, str) else self._describe(picture, next(found))
            for picture in pictures
        ]

    def _describe(self, picture: Picture, observation: Observation) -> dict[str, Any]:
        """Describe the prediction of one image."""
        answer = self._label(observation.prediction) | {"ood": self.ood(observation.ood_score)}
        if picture.corners is not None:
            scores = [None] * len(picture.corners) if observation.ood is None else observation.ood
            answer["tiles"] = [
                {"x": x, "y": y, **self._label(row), "ood": self.ood(score)}
                for (x, y), row, score in zip(
                    picture.corners, observation.probabilities, scores, strict=True
                )
            ]
        return answer

    def ood(self, score: float | None) -> dict[str, Any] | None:
        """Describe an OOD score for an answer; None if the model has no reference."""
        if self.reference is None or score is None:
            return None
        flag = bool(self.reference.flags(np.asarray(score, np.float32)))
        return {"score": round(float(score), 4), "flag": flag}

    def _label(self, probabilities: Probabilities) -> dict[str, Any]:
        return {
            "label": self.card.classes[int(probabilities.argmax())],
            "probabilities": {
                name: round(value, 6)
                for name, value in zip(self.card.classes, probabilities.tolist(), strict=True)
            },
        }


def join_reasons(reasons: Sequence[str]) -> str:
    """Join the first reasons why images cannot be read."""
    rest = len(reasons) - _REASONS
    return "; ".join(reasons[:_REASONS]) + (f"; and {rest} more images" if rest > 0 else "")


def _decoded_bytes(upload: Upload) -> int:
    """Bytes of the pixels of an upload; 0 if the upload will be refused without decoding."""
    header = read_header(upload.data)
    try:
        if header is not None:
            check_header(header)
            return header.decoded_bytes
    except ValueError:
        pass
    return 0


def from_base64(text: str, name: str) -> Upload | str:
    """Decode an upload from base64, or return the reason why the text is not base64."""
    starts = range(0, len(text), _BASE64_PIECE)
    try:
        data = b"".join(
            binascii.a2b_base64(text[start : start + _BASE64_PIECE], strict_mode=True)
            for start in starts
        )
        if "=" in text[:-2]:
            raise ValueError("padding before the end")
    except ValueError as error:
        return f"{name} is not base64 ({error}): encode the image file in base64"
    return Upload(name, data)
