"""A client of the service, with parallel requests and with retries while the service is busy."""

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from eurosat.errors import ServiceError

_FORM_BYTES = 1024
"""Upper bound of the bytes that the form adds to each file: boundary, headers and file name."""

_LONGEST_WAIT = 60
"""Longest wait between two attempts in seconds, even if the service asks for a longer wait."""


@dataclass(frozen=True)
class Prediction:
    """The service's answer for one image.

    Attributes:
        file: The path of the file as given, or ``"image <position>"`` for bytes.
        label: The predicted class; empty if the image was rejected.
        probability: The probability of the predicted class.
        probabilities: The probability of every class, in label order.
        ood_score: How unlike the model's validation images the image is, 0 to 1; None if the
            service gives no score.
        ood_flag: Whether the image is as unusual as the most unusual 1 %; None without a score.
        tiles: ``x``, ``y``, ``label`` and ``probabilities`` of each tile; empty without tiling.
        model_version: The version of the model that answered.
        id: The id of the request, as in the service's log.
        error: The reason why the image was rejected; None if the image was classified.
    """

    file: str
    label: str = ""
    probability: float = 0.0
    probabilities: dict[str, float] = field(default_factory=dict)
    ood_score: float | None = None
    ood_flag: bool | None = None
    tiles: list[dict[str, Any]] = field(default_factory=list)
    model_version: str = ""
    id: str = ""
    error: str | None = None


@dataclass(frozen=True)
class _Image:
    file: str
    source: Path | bytes

    @property
    def size(self) -> int:
        if isinstance(self.source, bytes):
            return len(self.source)
        try:
            return self.source.stat().st_size
        except OSError:
            return 0  # read() fails too, and its error has the reason

    @property
    def upload_name(self) -> str:
        name = self.source.name if isinstance(self.source, Path) else self.file
        return name.encode(errors="replace").decode()  # file names may be invalid Unicode

    def read(self) -> bytes:
        return self.source.read_bytes() if isinstance(self.source, Path) else self.source


@dataclass(frozen=True)
class _Upload:
    image: _Image
    data: bytes


class Client:
    """A client of one service; a context manager, which closes the connections at its end."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 35.0,
        retries: int = 5,
        concurrency: int = 4,
    ) -> None:
        """Configure the client; no request is sent yet.

        Args:
            url: The service's address, such as ``http://127.0.0.1:8000``.
            api_key: The service's API key; None for a service without a key.
            timeout: Seconds to wait for an answer.
            retries: Number of repetitions of a request if the service is busy, restarting or
                unreachable. The waits grow, unless the service sends ``Retry-After``.
            concurrency: Number of simultaneous requests.
        """
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.concurrency = concurrency
        self._limits: dict[str, Any] = {}
        self._session = requests.Session()
        if api_key:
            self._session.headers["X-API-Key"] = api_key.strip().encode()
        retry = Retry(
            total=retries,
            backoff_factor=0.2,  # 5 retries wait 6 s in total; a restart takes about 2 s
            backoff_jitter=0.1,
            status_forcelist=(408, 429, 502, 503, 504),
            allowed_methods=None,  # any method: classifying twice is harmless
            retry_after_max=_LONGEST_WAIT,
        )
        adapter = HTTPAdapter(pool_maxsize=concurrency, max_retries=retry)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def __enter__(self) -> "Client":
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._session.close()

    def info(self) -> dict[str, Any]:
        """Fetch the model card under ``model``, and the service's ``limits``.

        Raises:
            ServiceError: The service is unreachable, refuses the key, or is no `eurosat serve`.
        """
        _, content = self._ask("GET", "/info")
        if not {"model", "limits"} <= content.keys():
            raise self._foreign()
        return content

    def classify(
        self, images: Iterable[Path | bytes], *, tiles: bool = False, batch: int = 16
    ) -> Iterator[Prediction]:
        """Classify images.

        Args:
            images: Image files, or their bytes.
            tiles: Cut an image that is larger than a patch into tiles instead of resizing it.
            batch: Largest number of images in one request; the service's limits may lower it.

        Yields:
            A prediction for every image, in order; an unreadable image gets an ``error``.

        Raises:
            ServiceError: The service is unreachable, refuses the key, is no `eurosat serve`,
                fails, or stays busy after all retries.
        """
        self._limits = self.info()["limits"]
        named = [
            _Image(str(image) if isinstance(image, Path) else f"image {number}", image)
            for number, image in enumerate(images)
        ]
        batches = self._batches(named, batch)
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            for predictions in pool.map(lambda sent: self._classify(sent, tiles), batches):
                yield from predictions
        finally:
            pool.shutdown(cancel_futures=True)  # an error ends the remaining requests

    def _batches(self, images: Sequence[_Image], most: int) -> Iterator[list[_Image]]:
        most = min(most, self._limits["max_images"])
        batch: list[_Image] = []
        total = 0
        for image in images:
            size = image.size + _FORM_BYTES
            if batch and (len(batch) >= most or total + size > self._limits["max_body_bytes"]):
                yield batch
                batch, total = [], 0
            batch.append(image)
            total += size
        if batch:
            yield batch

    def _classify(self, images: list[_Image], tiles: bool) -> list[Prediction]:
        """Classify the images of one request; reject images that cannot be sent."""
        ready = [self._load(image) for image in images]
        uploads = [upload for upload in ready if isinstance(upload, _Upload)]
        answers = iter(self._send(uploads, tiles) if uploads else [])
        return [next(answers) if isinstance(entry, _Upload) else entry for entry in ready]

    def _load(self, image: _Image) -> _Upload | Prediction:
        limit = self._limits["max_body_bytes"]
        if image.size + _FORM_BYTES > limit:
            reason = (
                f"the file has {image.size / 2**20:.2f} MiB, and the service accepts "
                f"{limit / 2**20:.2f} MiB in a request: send a smaller image"
            )
            return Prediction(image.file, error=reason)
        try:
            return _Upload(image, image.read())
        except OSError as error:
            reason = f"the file cannot be read ({error.strerror}): check its path and permissions"
            return Prediction(image.file, error=reason)

    def _send(self, uploads: list[_Upload], tiles: bool) -> list[Prediction]:
        path = "/predict?tiles=true" if tiles else "/predict"
        form = [("file", (upload.image.upload_name, upload.data)) for upload in uploads]
        status, content = self._ask("POST", path, files=form)
        if status != 200 and len(uploads) == 1:
            file, reason = (
                uploads[0].image.file,
                content.get("error", "the service refused the image"),
            )
            return [Prediction(file, id=content.get("id", ""), error=reason)]
        if status != 200:
            # No image is readable, or a proxy has a lower limit. Each image is sent alone.
            return [answer for upload in uploads for answer in self._send([upload], tiles)]
        answers = content["predictions"] if len(uploads) > 1 else [content]
        return [
            Prediction(
                upload.image.file,
                label=answer.get("label", ""),
                probability=max(answer.get("probabilities", {}).values(), default=0.0),
                probabilities=answer.get("probabilities", {}),
                tiles=answer.get("tiles", []),
                ood_score=(answer.get("ood") or {}).get("score"),
                ood_flag=(answer.get("ood") or {}).get("flag"),
                model_version=content["model_version"],
                id=content["id"],
                error=answer.get("error"),
            )
            for upload, answer in zip(uploads, answers, strict=True)
        ]

    def _ask(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Send a request, and return the status and content of a 200, 413 or 422 answer."""
        try:
            response = self._session.request(
                method,
                self.url + path,
                timeout=self.timeout,
                allow_redirects=False,  # requests would repeat a POST as GET, with the key
                **options,
            )
        except requests.exceptions.RetryError as error:
            raise ServiceError(
                f"{self.url} stayed busy or unready after all retries: wait, raise --retries, or "
                "lower --concurrency"
            ) from error
        except (
            requests.exceptions.InvalidSchema,
            requests.exceptions.InvalidURL,
            requests.exceptions.MissingSchema,
        ) as error:
            raise ServiceError(
                f"{self.url} is not an address of a service: give an address such as "
                "http://127.0.0.1:8000"
            ) from error
        except requests.exceptions.RequestException as error:
            raise ServiceError(
                f"{self.url} cannot be reached ({_reason(error)}): check the address, or start "
                "the service with 'eurosat serve MODEL'"
            ) from error
        try:
            content = response.json()
        except ValueError:
            content = None
        match response.status_code:
            case 401:
                raise ServiceError(
                    f"{self.url} refuses the API key: set EUROSAT_API_KEY to the key that the "
                    "service was started with"
                )
            case 413 if content is None:  # a proxy answered, not the service
                reason = "the file is too large for a proxy of the service: send a smaller image"
                content = {"error": reason, "id": ""}
            case 300 | 301 | 302 | 303 | 307 | 308:
                raise ServiceError(
                    f"{self.url} redirects to {response.headers.get('Location')}: give the "
                    "service's own address"
                )
        if not isinstance(content, dict):
            raise self._foreign()
        if response.status_code not in (200, 413, 422):
            reason = content.get("error", "the answer has no reason")
            raise ServiceError(
                f"{self.url} answers with status {response.status_code}: {reason} "
                f"(request {content.get('id', 'unknown')})"
            )
        return response.status_code, content

    def _foreign(self) -> ServiceError:
        return ServiceError(
            f"{self.url} does not answer as 'eurosat serve' does: check the address"
        )


def _reason(error: Exception) -> str:
    """Return the reason at the root of nested network errors, without the objects' own names."""
    inner = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    return re.sub(r"^\S*\(.*?\): ", "", str(inner)) or type(error).__name__
