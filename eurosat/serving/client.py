"""A client of the service: many images, several requests at once, patient with a busy service."""

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
"""Room for a file's share of the form around it: boundaries, headers, its name."""

_LONGEST_WAIT = 60
"""Seconds between two tries, even if the service asks for a longer wait."""


@dataclass(frozen=True)
class Prediction:
    """What the service says of one image.

    Attributes:
        file: The file's path as given, or ``"image <position>"`` for bytes.
        label: The predicted class; empty if the image was rejected.
        probability: The predicted class's probability.
        probabilities: All classes' probabilities, in label order.
        tiles: Where the image was cut: ``x``, ``y``, ``label`` and ``probabilities`` of each tile.
        model_version: The model that answered.
        id: The request's id, which the service's log has too.
        error: Why the image was rejected; None if it was not.
    """

    file: str
    label: str = ""
    probability: float = 0.0
    probabilities: dict[str, float] = field(default_factory=dict)
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
            return 0  # read() says what is wrong

    @property
    def upload_name(self) -> str:
        name = self.source.name if isinstance(self.source, Path) else self.file
        return name.encode(errors="replace").decode()  # a file system's bytes may be no text

    def read(self) -> bytes:
        return self.source.read_bytes() if isinstance(self.source, Path) else self.source


@dataclass(frozen=True)
class _Upload:
    image: _Image
    data: bytes


class Client:
    """A service at an address. Close it, or use it as a context manager."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 35.0,
        retries: int = 5,
        concurrency: int = 4,
    ) -> None:
        """Describe the connection; nothing is sent yet.

        Args:
            url: The service's address, such as ``http://127.0.0.1:8000``.
            api_key: The key it asks for, if it does.
            timeout: Seconds to wait for an answer.
            retries: How often a request is repeated when the service is busy, restarting or not
                reached; with growing waits, or those the service asks for.
            concurrency: Requests at the same time.
        """
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.concurrency = concurrency
        self._limits: dict[str, Any] = {}
        self._session = requests.Session()
        if api_key:
            self._session.headers["X-API-Key"] = api_key.encode()
        retry = Retry(
            total=retries,
            backoff_factor=0.2,  # with 5 retries about 6 s: a service that restarts needs 2
            backoff_jitter=0.1,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=None,  # classifying twice does no harm
            retry_after_max=_LONGEST_WAIT,
        )
        adapter = HTTPAdapter(pool_maxsize=concurrency, max_retries=retry)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def __enter__(self) -> "Client":
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._session.close()

    def info(self) -> dict[str, Any]:
        """The model's card under ``model`` and the service's ``limits``.

        Raises:
            ServiceError: The service cannot be reached, refuses the key, or is another service.
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
            tiles: Have an image larger than a patch cut into tiles rather than resized.
            batch: Most images in one request; fewer where the service's limits ask for it.

        Yields:
            A prediction for every image, in order; one that cannot be read has an ``error``.

        Raises:
            ServiceError: The service cannot be reached, refuses the key, is another service,
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
            for predictions in pool.map(lambda part: self._classify(part, tiles), batches):
                yield from predictions
        finally:
            pool.shutdown(cancel_futures=True)  # after an error the rest need not be asked

    def _batches(self, images: Sequence[_Image], most: int) -> Iterator[list[_Image]]:
        most = min(most, self._limits["max_images"])
        part: list[_Image] = []
        size = 0
        for image in images:
            share = image.size + _FORM_BYTES
            if part and (len(part) >= most or size + share > self._limits["max_body_bytes"]):
                yield part
                part, size = [], 0
            part.append(image)
            size += share
        if part:
            yield part

    def _classify(self, images: list[_Image], tiles: bool) -> list[Prediction]:
        """Classify the images of one request; those that cannot be sent are rejected here."""
        ready = [self._load(image) for image in images]
        uploads = [upload for upload in ready if isinstance(upload, _Upload)]
        answers = iter(self._send(uploads, tiles) if uploads else [])
        return [next(answers) if isinstance(entry, _Upload) else entry for entry in ready]

    def _load(self, image: _Image) -> _Upload | Prediction:
        limit = self._limits["max_body_bytes"]
        if image.size + _FORM_BYTES > limit:
            sizes = f"{image.size / 2**20:.2f} MiB are more than the {limit / 2**20:.2f} MiB taken"
            return Prediction(image.file, error=sizes)
        try:
            return _Upload(image, image.read())
        except OSError as error:
            return Prediction(image.file, error=f"cannot be read ({error.strerror})")

    def _send(self, uploads: list[_Upload], tiles: bool) -> list[Prediction]:
        path = "/predict?tiles=true" if tiles else "/predict"
        form = [("file", (upload.image.upload_name, upload.data)) for upload in uploads]
        status, content = self._ask("POST", path, files=form)
        if status != 200 and len(uploads) == 1:
            file, reason = uploads[0].image.file, content.get("error", "refused")
            return [Prediction(file, id=content.get("id", ""), error=reason)]
        if status != 200:
            # None could be read, or a proxy has a lower limit: each alone has its own answer.
            return [answer for upload in uploads for answer in self._send([upload], tiles)]
        answers = content["predictions"] if len(uploads) > 1 else [content]
        return [
            Prediction(
                upload.image.file,
                label=answer.get("label", ""),
                probability=max(answer.get("probabilities", {}).values(), default=0.0),
                probabilities=answer.get("probabilities", {}),
                tiles=answer.get("tiles", []),
                model_version=content["model_version"],
                id=content["id"],
                error=answer.get("error"),
            )
            for upload, answer in zip(uploads, answers, strict=True)
        ]

    def _ask(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """The status and content of an answer: of success, or of images that are refused."""
        try:
            response = self._session.request(
                method,
                self.url + path,
                timeout=self.timeout,
                allow_redirects=False,  # a redirected POST comes as a GET, with the key
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
                f"{self.url} is no address of a service: expected one like http://127.0.0.1:8000"
            ) from error
        except requests.exceptions.RequestException as error:
            raise ServiceError(
                f"no answer from {self.url} ({_reason(error)}): check the address, or start the "
                "service with 'eurosat serve MODEL'"
            ) from error
        try:
            content = response.json()
        except ValueError:
            content = None
        match response.status_code:
            case 401:
                raise ServiceError(
                    f"{self.url} refuses the API key: set EUROSAT_API_KEY to the one it was "
                    "started with"
                )
            case 413 if content is None:  # a proxy's
                content = {"error": "the file is too large for the service", "id": ""}
            case 300 | 301 | 302 | 303 | 307 | 308:
                raise ServiceError(
                    f"{self.url} redirects to {response.headers.get('Location')}: give the "
                    "service's own address"
                )
        if not isinstance(content, dict):
            raise self._foreign()
        if response.status_code not in (200, 413, 422):
            sentence = content.get("error", "without a reason")
            raise ServiceError(
                f"{self.url} answers with status {response.status_code}: {sentence} "
                f"(request {content.get('id', 'unknown')})"
            )
        return response.status_code, content

    def _foreign(self) -> ServiceError:
        return ServiceError(
            f"{self.url} does not answer as 'eurosat serve' does: check the address"
        )


def _reason(error: Exception) -> str:
    """What is at the bottom of nested network errors, without the objects' own names."""
    inner = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    return re.sub(r"^\S*\(.*?\): ", "", str(inner)) or type(error).__name__
