"""Whatever is sent, the answer is the right status with a sentence, and the service goes on."""

import io
import socket
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from tests.serving.conftest import Service, StartService


@pytest.fixture(autouse=True)
def still_serving(service: Service, pictures: dict[str, bytes]) -> Iterator[None]:
    """After every test the same service still answers."""
    yield
    assert service.predict(pictures["Forest.jpg"]).status_code == 200


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few kilobytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 10_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def bands(count: int, dtype: str = "uint16") -> bytes:
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", width=64, height=64, count=count, dtype=dtype) as file:
            file.write(np.ones((count, 64, 64), dtype))
        return bytes(memory.read())


PLAIN = Image.new("RGB", (64, 64), (40, 90, 60))

ENTITIES = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
SVG = f'<!DOCTYPE svg [<!ENTITY e0 "a">{ENTITIES}]><svg><text>&e9;</text></svg>'
VRT = (
    '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1">'
    "<SimpleSource><SourceFilename>{}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", encoded(PLAIN))
    return buffer.getvalue()


UNREADABLE = {
    # Formats by which a reader of images would open other files or addresses.
    "vrt of a file": (VRT.format("/etc/passwd").encode(), "not a JPEG, PNG or TIFF"),
    "vrt of an address": (VRT.format("/vsicurl/http://127.0.0.1:1/").encode(), "not a JPEG"),
    "wms": (b"<GDAL_WMS><Service name='TMS'/></GDAL_WMS>", "not a JPEG, PNG or TIFF"),
    "path": (b"/vsicurl/http://127.0.0.1:1/a.tif", "not a JPEG, PNG or TIFF"),
    "zip": (zipped(), "not a JPEG, PNG or TIFF"),
    "svg with entities": (SVG.encode(), "not a JPEG, PNG or TIFF"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run", "not a JPEG, PNG or TIFF"),
    "webp": (encoded(PLAIN, "WEBP"), "not a JPEG, PNG or TIFF"),
    "text": (b"hello", "not a JPEG, PNG or TIFF"),
    "empty": (b"", "the file is empty"),
    "truncated": (encoded(PLAIN.resize((512, 512)), "JPEG")[:900], "cannot be decoded"),
    "bomb": (bomb(), "cannot be decoded"),
    "large": (encoded(Image.new("1", (5000, 5000))), "pixels exceed the limit"),
    "16-bit": (encoded(Image.fromarray(np.ones((64, 64), np.uint16))), "not 8-bit"),
    "gif": (encoded(PLAIN, "GIF"), "not a JPEG, PNG or TIFF"),
    "five bands": (bands(5), "5 channels"),
    "uint16 RGB TIFF": (bands(3), "not 8-bit (uint16)"),
    "8-bit bands": (bands(13, "uint8"), "no value above 1"),
    "float bands": (bands(13, "float32"), "float32"),
    "tiff in name only": (b"II*\0" + b"\0" * 100, "cannot be decoded"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_image_of_ours_gets_422_and_the_reason(service: Service, case: str) -> None:
    data, reason = UNREADABLE[case]
    answer = service.predict(data)
    assert answer.status_code == 422
    assert reason in answer.json()["error"]


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "L", "P", "1"])
def test_other_8_bit_modes_are_read_as_rgb(service: Service, mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert service.predict(encoded(PLAIN.convert(mode), kind)).status_code == 200


@pytest.mark.parametrize("kind", ["PNG", "MPO"])
def test_only_the_first_of_several_pictures_counts(service: Service, kind: str) -> None:
    buffer = io.BytesIO()
    others = [Image.new("RGB", (64, 64), (i, 0, 0)) for i in range(30)]
    PLAIN.save(buffer, kind, save_all=True, append_images=others)
    alone = service.predict(encoded(PLAIN, "JPEG" if kind == "MPO" else kind)).json()
    found = service.predict(buffer.getvalue()).json()
    assert found["probabilities"] == pytest.approx(alone["probabilities"], abs=0.01)


def test_one_bad_image_does_not_harm_its_neighbours(
    service: Service, pictures: dict[str, bytes]
) -> None:
    files = [
        ("file", ("a.jpg", pictures["River.jpg"])),
        ("file", ("b.jpg", b"x")),
        ("file", ("c.jpg", pictures["Forest.jpg"])),
    ]
    answer = service.post("/predict", files=files)
    assert answer.status_code == 200
    first, second, third = answer.json()["predictions"]
    assert "label" in first
    assert "label" in third
    assert "b.jpg cannot be decoded" in second["error"]
    mixed = service.post("/predict", json={"images": ["%%%", ""]})
    assert mixed.status_code == 422
    assert "image 0 is not base64" in mixed.json()["error"]


def post(service: Service, path: str = "/predict", **options: Any) -> tuple[int, str]:
    answer = service.post(path, **options)
    return answer.status_code, answer.json()["error"]


def test_bodies_that_are_not_what_they_should_be(service: Service) -> None:
    jpeg = encoded(PLAIN, "JPEG")
    json_type = {"Content-Type": "application/json"}
    for path in ("/predict", "/vertex/predict", "/v2/models/eurosat/infer"):
        assert post(service, path, data=b'{"a": ', headers=json_type)[0] == 400
        assert post(service, path, data=b"\xff\xfe", headers=json_type)[0] == 400
        assert post(service, path, json={})[0] == 422
        assert post(service, path, json=[])[0] == 422
        assert post(service, path, json="text")[0] == 422
    assert post(service)[0] == 415
    assert post(service, data=jpeg, headers={"Content-Type": "image/jpeg"})[0] == 415
    assert post(service, files={"picture": jpeg}) == (
        422,
        "the form has no field 'file' (fields: picture): send the images as the field 'file'",
    )
    assert post(service, files={"other": b""}, data={"file": "text"})[0] == 422
    status, error = post(
        service, data=b"garbage", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert status in (400, 422)
    status, error = post(service, data=b"garbage", headers={"Content-Type": "multipart/form-data"})
    assert (status, "boundary" in error) == (400, True)
    for charset in ("undefined", "punycode", "idna"):  # Python's codecs that raise, or take long
        kind = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
        form = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n.-\xff\r\n--x--\r\n'
        assert post(service, data=form, headers=kind)[0] == 415
    assert post(service, json={"images": []})[0] == 422
    assert post(service, json={"images": [1]})[0] == 422
    assert post(service, json={"images": {"a": 1}})[0] == 422
    assert post(service, "/explain", files=[("file", jpeg), ("file", jpeg)])[0] == 422
    assert post(service, params={"tiles": "perhaps"}, files={"file": jpeg})[0] == 422


def test_too_much_gets_413(service: Service) -> None:
    jpeg = encoded(PLAIN, "JPEG")
    status, error = post(service, files=[("file", (f"{i}.jpg", jpeg)) for i in range(200)])
    assert status == 413
    assert "200 images, and at most 128 are accepted" in error
    status, error = post(service, json={"images": ["A" * 17 * 2**20]})
    assert (status, error) == (
        413,
        "the body is larger than the limit of 16 MiB: send fewer or smaller images",
    )

    def parts() -> Iterator[bytes]:  # sent in chunks, without a Content-Length
        yield b'{"images": ["'
        for _ in range(17):
            yield b"A" * 2**20
        yield b'"]}'

    answer = service.post("/predict", data=parts(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    tall = encoded(Image.new("RGB", (64, 64 * 257)))
    status, error = post(service, files={"file": tall}, params={"tiles": "true"})
    assert (status, "the limit is 256 tiles" in error) == (422, True)
    square = encoded(Image.new("RGB", (64 * 16, 64 * 16)))
    files = [("file", (f"{i}.png", square)) for i in range(5)]
    status, error = post(service, files=files, params={"tiles": "true"})
    assert (status, "more than 1024 tiles" in error) == (413, True)
    narrow = encoded(Image.new("RGB", (32, 300)))
    status, error = post(service, files={"file": narrow}, params={"tiles": "true"})
    assert (status, "cannot be tiled" in error) == (422, True)


def test_file_names_are_only_repeated(service: Service) -> None:
    jpeg = encoded(PLAIN, "JPEG")
    names = ["../../etc/passwd", "C:\\a.jpg", "<b>.jpg", "a\u0000b.jpg", "é.jpg", "x" * 500]
    answer = service.post("/predict", files=[("file", (name, jpeg)) for name in names])
    assert answer.status_code == 200
    assert all("label" in entry for entry in answer.json()["predictions"])
    assert post(service, files={"file": ("x" * 10_000, jpeg)})[0] == 400


def test_paths_do_not_leave_the_page_and_the_examples(service: Service) -> None:
    for path in (
        "/examples/..%2f..%2fsetup.py",
        "/page/..%2f..%2fserver.py",
        "/page/../server.py",
        "/docs/static/%2e%2e/core.py",
        "/nothing",
    ):
        answer = service.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]
    assert service.get("/predict").status_code == 405


def test_a_browser_takes_no_answer_for_a_page(service: Service) -> None:
    example = service.get("/examples").json()[0]
    paths = ("/", "/docs", "/page/app.js", "/docs/static/swagger-ui.css", "/info", "/metrics")
    for path in (*paths, f"/examples/{example}", "/nowhere"):
        answer = service.get(path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'"), path
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    assert service.get(f"/examples/{example}").headers["Content-Type"] == "image/png"


@pytest.mark.parametrize(
    "head", [b"no HTTP", b"GET /" + b"a" * 33_000 + b" HTTP/1.1", b"FOO / HTTP/1.1"]
)
def test_a_browser_takes_no_answer_to_a_malformed_request_for_a_page(
    service: Service, head: bytes
) -> None:
    """These answers do not come from the application."""
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2]))) as caller:
        caller.sendall(head + b"\r\n\r\n")
        answer = caller.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"x-content-type-options: nosniff\r\n" in answer
    assert b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n" in answer


def test_head_is_answered_as_get_without_the_body(start_service: StartService) -> None:
    service = start_service()
    for path in ("/health", "/info", "/metrics", "/", "/page/app.js", "/v2/models/eurosat"):
        head, get = service.session.head(service.url + path), service.get(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert service.session.head(f"{service.url}/predict").status_code == 405
    assert service.get("/health").json() == {"status": "ready"}  # on the same connection


def test_the_key_guards_all_but_health_and_pages(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    guarded = start_service(env={"EUROSAT_API_KEY": "secret\n"})  # as files of secrets end
    for path in ("/health", "/v2/health/ready", "/metrics", "/", "/docs", "/openapi.json"):
        assert guarded.get(path).status_code == 200
    picture = pictures["Forest.jpg"]
    paths = ("/predict", "/explain", "/vertex/predict", "/v2/models/eurosat/infer")
    # The router takes a newline at the end of a path for its end.
    for path in (*paths, *(f"{path}%0A" for path in paths)):
        for headers in (
            {},
            {"X-API-Key": "wrong"},
            {"X-API-Key": "sécret"},
            {"Authorization": "Basic secret"},
            {"Authorization": "secret"},
        ):
            answer = guarded.post(path, files={"file": picture}, headers=headers)
            assert answer.status_code == 401
            assert "X-API-Key" in answer.json()["error"]
    assert guarded.get("/info").status_code == 401
    for headers in (
        {"X-API-Key": "secret"},
        {"Authorization": "Bearer secret"},
        {"Authorization": "bearer  secret"},
    ):
        assert guarded.predict(picture, headers=headers).status_code == 200
        assert guarded.get("/info", headers=headers).status_code == 200
    assert "ApiKey" in guarded.get("/openapi.json").json()["components"]["securitySchemes"]


def test_thirteen_bands_are_rendered_for_a_model_of_rgb(
    service: Service, multispectral: bytes
) -> None:
    assert service.predict(multispectral, "a.tif").status_code == 200
