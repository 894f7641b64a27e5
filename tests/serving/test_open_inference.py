"""The Open Inference Protocol: what it answers, and what it refuses in words."""

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest
import requests

from tests.serving.conftest import Service

INFER = "/v2/models/eurosat/infer"
PATCH = 3 * 64 * 64
RAW = {"name": "patches", "shape": [1, 3, 64, 64], "datatype": "UINT8", "data": [0] * PATCH}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def files(*images: bytes, **changes: Any) -> dict[str, Any]:
    """An input of image files in JSON."""
    data = list(map(b64, images))
    return {"name": "patches", "shape": [len(data)], "datatype": "BYTES", "data": data} | changes


def elements(*images: bytes) -> bytes:
    """Image files as binary data."""
    return b"".join(struct.pack("<I", len(image)) + image for image in images)


def send_binary(
    service: Service,
    tensor: dict[str, Any],
    data: bytes,
    length: str | None = None,
    path: str = INFER,
    **request: Any,
) -> requests.Response:
    """Send JSON and binary data, without a Content-Type."""
    given = {name: value for name, value in tensor.items() if name != "data"}
    given = {"parameters": {"binary_data_size": len(data)}} | given
    text = json.dumps({"inputs": [given]} | request).encode()
    headers = {"Inference-Header-Content-Length": length or str(len(text))}
    return service.post(path, data=text + data, headers=headers)


def outputs_of(answer: requests.Response) -> dict[str, tuple[dict[str, Any], bytes]]:
    """The outputs of an answer by name, each with its binary data."""
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["Inference-Header-Content-Length"])
    start, found = length, {}
    for output in json.loads(answer.content[:length])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        found[output["name"]] = (output, answer.content[start : start + size])
        start += size
    assert start == len(answer.content)
    return found


def test_metadata_and_health(service: Service) -> None:
    server = service.get("/v2").json()
    assert server["extensions"] == ["binary_tensor_data"]
    assert service.get("/v2/health/live").json() == {"live": True}
    assert service.get("/v2/health/ready").json() == {"ready": True}
    for model in ("/v2/models/eurosat", f"/v2/models/eurosat/versions/{server['version']}"):
        assert service.get(f"{model}/ready").json() == {"ready": True}
        metadata = service.get(model).json()
        assert metadata["versions"] == [server["version"]]
        assert metadata["inputs"] == [
            {"name": "patches", "datatype": "UINT8", "shape": [-1, 3, 64, 64]}
        ]


def test_another_model_or_version_is_404_in_words(service: Service) -> None:
    version = service.get("/v2").json()["version"]
    for model, error in (
        ("resnet", "the service has no model 'resnet': the model's name is 'eurosat'"),
        (f"resnet/versions/{version}", "the service has no model 'resnet'"),
        ("eurosat/versions/1", f"the model has no version '1': its version is '{version}'"),
        ("x" * 5000, "the service has no model"),
    ):
        path = f"/v2/models/{model}"
        for answer in (
            service.get(path),
            service.get(f"{path}/ready"),
            service.post(f"{path}/infer", json={"inputs": [RAW]}),
        ):
            assert answer.status_code == 404
            assert error in answer.json()["error"]
            assert len(answer.json()["error"]) < 200


def test_a_version_is_answered_like_the_model(service: Service) -> None:
    version = service.get("/v2").json()["version"]
    path = f"/v2/models/eurosat/versions/{version}/infer"
    for given in ({"json": {"inputs": [RAW]}}, {"data": json.dumps({"inputs": [RAW]})}):
        answer = service.post(path, **given)
        assert answer.json()["model_version"] == version
        assert (
            answer.json()["outputs"]
            == service.post(INFER, json={"inputs": [RAW]}).json()["outputs"]
        )


def test_outputs_can_be_chosen_and_ordered(service: Service, pictures: dict[str, bytes]) -> None:
    request = {
        "inputs": [files(pictures["River.jpg"])],
        "outputs": [{"name": "ood_flag"}, {"name": "label"}],
    }
    outputs = service.post(INFER, json=request).json()["outputs"]
    assert [output["name"] for output in outputs] == ["ood_flag", "label"]


def test_binary_data_are_what_the_json_is(service: Service, pictures: dict[str, bytes]) -> None:
    images = list(pictures.values())[:2]
    expected = {
        output["name"]: output
        for output in service.post(INFER, json={"inputs": [files(*images)]}).json()["outputs"]
    }
    answer = send_binary(
        service, files(*images), elements(*images), parameters={"binary_data_output": True}
    )
    assert answer.headers["Content-Type"] == "application/octet-stream"
    found = outputs_of(answer)
    assert list(found) == list(expected)
    for name, (output, _) in found.items():
        assert "data" not in output
        assert output["shape"] == expected[name]["shape"]
    probabilities = np.frombuffer(found["probabilities"][1], "<f4")
    np.testing.assert_allclose(probabilities, expected["probabilities"]["data"], rtol=1e-6)
    np.testing.assert_allclose(
        np.frombuffer(found["ood_score"][1], "<f4"), expected["ood_score"]["data"], rtol=1e-6
    )
    assert np.frombuffer(found["ood_flag"][1], "?").tolist() == expected["ood_flag"]["data"]
    assert found["label"][1] == elements(*(x.encode() for x in expected["label"]["data"]))

    raw = np.random.default_rng(1).integers(0, 256, (2, 3, 64, 64), np.uint8)
    tensor = RAW | {"shape": list(raw.shape)}
    plain = service.post(INFER, json={"inputs": [tensor | {"data": raw.tolist()}]}).json()
    mixed = outputs_of(
        send_binary(
            service,
            tensor,
            raw.tobytes(),
            parameters={"binary_data_output": False},
            outputs=[
                {"name": "label", "parameters": {"binary_data": True}},
                {"name": "probabilities"},
            ],
        )
    )
    assert mixed["probabilities"][0]["data"] == plain["outputs"][0]["data"]
    assert mixed["label"][1] == elements(*(x.encode() for x in plain["outputs"][1]["data"]))


def test_numbers_may_be_flat_nested_and_spaced(service: Service) -> None:
    raw = np.random.default_rng(2).integers(0, 256, (20, 3, 64, 64), np.uint8)
    tensor = RAW | {"shape": list(raw.shape)}
    answers = [
        service.post(INFER, data=json.dumps({"inputs": [tensor | {"data": data}]}, indent=indent))
        for data in (raw.ravel().tolist(), raw.tolist())
        for indent in (None, 1)
    ]
    answers.append(send_binary(service, tensor, raw.tobytes()))
    found = [answer.json()["outputs"][0]["data"] for answer in answers]
    assert all(data == found[0] for data in found)


def test_the_largest_request_is_answered(service: Service) -> None:
    raw = np.full((128, 3, 64, 64), 255, np.uint8)
    tensor = RAW | {"shape": list(raw.shape)}
    for data in (raw.ravel().tolist(), raw.tolist()):
        answer = service.post(INFER, json={"inputs": [tensor | {"data": data}]})
        assert answer.json()["outputs"][0]["shape"] == [128, 10]


@pytest.mark.parametrize(
    "changes",
    [
        {"datatype": "UINT16"},
        {"datatype": "FP32"},
        {"datatype": "BYTES"},
        {"shape": [1, 13, 64, 64]},
        {"shape": [PATCH]},
        {"shape": []},
        {"shape": [2, 3, 64, 64]},
        {"data": [1.5] * PATCH},
        {"data": [256] * PATCH},
        {"data": [-1] * PATCH},
        {"data": [True] * PATCH},
        {"data": [1, 2, 3]},
        {"data": []},
        {"data": "text"},
        {"data": {}},
        {"data": [[1], [2, 3]]},
        {"data": [[[[0] * PATCH]]]},
        {"data": [[[[0] * 64] * 63 + [[0] * 63 + [0, 0]]] + [[[0] * 64] * 64] * 2]},
        {"data": [[[0] * 64] * 64] * 3},
        {"data": [[0], *[0] * (PATCH - 1)]},
        {"data": ["a"] * PATCH},
        {"data": [None] * PATCH},
        {"data": [10**30] * PATCH},
    ],
    ids=lambda changes: repr(changes)[:40].replace("[", "").replace("]", ""),
)
def test_wrong_tensors_are_refused_in_words(service: Service, changes: dict[str, Any]) -> None:
    answer = service.post(INFER, json={"inputs": [RAW | changes]})
    assert answer.status_code == 422
    assert "UINT8 of shape [n, 3, 64, 64]" in answer.json()["error"]
    assert len(answer.json()["error"]) < 500


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "flat"])
def test_the_place_of_a_wrong_number_is_named(service: Service, nested: bool) -> None:
    pixels = np.zeros((3, 3, 64, 64), int)
    pixels[2, 1, 5, 7] = 256
    data = (pixels if nested else pixels.ravel()).tolist()
    answer = service.post(INFER, json={"inputs": [RAW | {"shape": [3, 3, 64, 64], "data": data}]})
    place = "$[2][1][5][7]" if nested else f"$[{pixels.argmax()}]"
    assert f"at `{place}`" in answer.json()["error"]


def test_wrong_bytes_are_refused_in_words(service: Service, pictures: dict[str, bytes]) -> None:
    image = pictures["Forest.jpg"]
    for tensor, error in (
        (files(image, shape=[2]), "the data have 1 values, and the shape has 2"),
        (files(image, image, shape=[1]), "the data have 2 values, and the shape has 1"),
        (files(image, shape=[1, 1]), "'BYTES' of shape [1, 1]"),
        (files(image, shape=[0]), "shape"),
        (files(image, shape=[1.0]), "shape"),
        (files(image, shape="1"), "shape"),
        (files(image, data=[[b64(image)]]), "Expected `str`"),
        (files(image, data=[1]), "Expected `str`"),
        (files(image, data=["%%%"]), "image 0 is not base64"),
        (files(image, data=["data:image/png;base64," + b64(image)]), "image 0 is not base64"),
        (files(image, name="image"), "the input 'image' is unknown: give the input the name"),
        (files(image, datatype="bytes"), "the input is 'bytes' of shape [1]"),
        (files(image, parameters={"content_type": "base64"}), "unknown field `content_type`"),
        (files(image, parameters={"binary_data_size": 5}), "and 5 as binary_data_size"),
        (files(image, parameters={"binary_data_size": True}), "binary_data_size"),
    ):
        answer = service.post(INFER, json={"inputs": [tensor]})
        assert (answer.status_code, error in answer.json()["error"]) == (422, True), answer.text
    too_many = files(*[b""] * 129)
    answer = service.post(INFER, json={"inputs": [too_many]})
    assert answer.status_code == 413
    assert "129 images, and at most 128 are accepted" in answer.json()["error"]


def test_wrong_requests_are_refused_in_words(service: Service) -> None:
    for request, error in (
        ({"inputs": [RAW, RAW]}, "array` of length 1"),
        ({"inputs": []}, "array` of length 1"),
        ({"inputs": [RAW], "id": 7}, "`$.id`"),
        ({"inputs": [RAW], "outputs": [{"name": "logits"}]}, "the output 'logits' is unknown"),
        ({"inputs": [RAW], "outputs": [{"name": "label"}] * 2}, "'label' is named twice"),
        ({"inputs": [RAW], "outputs": "label"}, "outputs"),
        (
            {"inputs": [RAW], "outputs": [{"name": "label", "parameters": {"classification": 3}}]},
            "unknown field `classification`",
        ),
        ({"inputs": [RAW], "parameters": {"priority": 1}}, "unknown field `priority`"),
        ({"inputs": [RAW], "parameters": {"binary_data_output": 1}}, "binary_data_output"),
        ({"inputs": [{key: RAW[key] for key in RAW if key != "data"}]}, "no data in the JSON"),
    ):
        answer = service.post(INFER, json=request)
        assert (answer.status_code, error in answer.json()["error"]) == (422, True), answer.text


def test_wrong_binary_data_are_refused_in_words(
    service: Service, pictures: dict[str, bytes]
) -> None:
    image = pictures["Forest.jpg"]
    one, good = files(image), elements(image)
    for tensor, data, error in (
        (RAW, b"\0" * (PATCH - 1), "12287 bytes are not 12288 numbers"),
        (RAW, b"\0" * (PATCH + 1), "12289 bytes are not 12288 numbers"),
        (RAW, b"", "0 bytes are not"),
        (one, good[:-1], "are not 1 files"),
        (one, good + b"\0", "are not 1 files"),
        (one, good * 2, "are not 1 files"),
        (one, image, "are not 1 files"),
        (one, b"\xff\xff\xff\xff", "are not 1 files"),
        (one, b"", "0 bytes are not 1 files"),
        (one | {"shape": [2]}, good, "are not 2 files"),
        (one | {"parameters": {"binary_data_size": 5}}, good, "and 5 as binary_data_size"),
        (one | {"parameters": {}}, good, "and None as binary_data_size"),
        (one, elements(b"no image"), "image 0 cannot be decoded"),
    ):
        answer = send_binary(service, tensor, data)
        assert (answer.status_code, error in answer.json()["error"]) == (422, True), answer.text
    text = json.dumps({"inputs": [RAW]}).encode()
    for length in ("-1", "1e3", str(len(text) + 1), "9" * 5000, "٣", ""):
        headers = {"Inference-Header-Content-Length": length.encode()}
        answer = service.post(INFER, data=text, headers=headers)
        assert (answer.status_code, "the body has" in answer.json()["error"]) == (400, True), length


def test_other_types_of_bodies_are_refused_in_words(service: Service) -> None:
    text = json.dumps({"inputs": [RAW]}).encode()
    for kind in ("", "application/json; charset=utf-8", "Application/JSON"):
        headers = {"Content-Type": kind}
        assert service.post(INFER, data=text, headers=headers).status_code == 200
    for path in (INFER, "/vertex/predict", "/predict", "/explain"):
        answer = service.post(path, data=text, headers={"Content-Type": "text/plain"})
        assert (answer.status_code, "application/json" in answer.json()["error"]) == (415, True)
        for coding in ("gzip", "deflate", "br", "gzip, gzip"):
            headers = {"Content-Type": "application/json", "Content-Encoding": coding}
            answer = service.post(path, data=text, headers=headers)
            assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, "identity")
            assert "send the body uncompressed" in answer.json()["error"]
    headers = {"Content-Encoding": "identity"}
    assert service.post(INFER, data=text, headers=headers).status_code == 200
