"""The routes: what the service answers to what it is sent."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.routing import iter_route_contexts
from PIL import Image

from eurosat.inference.runtime import open_model
from eurosat.labels import CLASSES
from eurosat.serving.admission import is_public
from tests.conftest import jpeg
from tests.serving.conftest import Front, Service, StartService


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    """A picture as the model takes it, shape (1, 3, 64, 64)."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)[None].copy()


def wide(pictures: dict[str, bytes]) -> bytes:
    """A picture of two patches, Forest on the left and SeaLake on the right, as PNG."""
    halves = [Image.open(io.BytesIO(pictures[name])) for name in ("Forest.jpg", "SeaLake.jpg")]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate([np.asarray(half) for half in halves], axis=1)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def test_one_file_gets_what_the_model_says(
    service: Service, onnx_model: Path, pictures: dict[str, bytes]
) -> None:
    model = open_model(onnx_model)
    for data in pictures.values():
        answer = service.predict(data).json()
        expected = model.predict(pixels(data))[0]
        assert answer["label"] == CLASSES[expected.argmax()]
        assert list(answer["probabilities"]) == list(CLASSES)
        np.testing.assert_allclose(list(answer["probabilities"].values()), expected, atol=1e-5)
        assert answer["model_version"] == model.card.version
        assert answer["id"]


def test_every_protocol_gives_the_same(service: Service, pictures: dict[str, bytes]) -> None:
    data = list(pictures.values())[:3]
    single = [service.predict(one).json() for one in data]
    form = service.post("/predict", files=[("file", (f"{i}.jpg", d)) for i, d in enumerate(data)])
    plain = service.post("/predict", json={"images": list(map(b64, data))})
    vertex = service.post("/vertex/predict", json={"instances": [{"b64": b64(d)} for d in data]})
    for response in (form, plain, vertex):
        assert response.status_code == 200
        for answer, expected in zip(response.json()["predictions"], single, strict=True):
            assert answer["label"] == expected["label"]
            assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert [answer["file"] for answer in form.json()["predictions"]] == ["0.jpg", "1.jpg", "2.jpg"]
    expected = [list(answer["probabilities"].values()) for answer in single]
    raw = np.concatenate(list(map(pixels, data)))
    for datatype, shape, values in (
        ("BYTES", [3], list(map(b64, data))),
        ("UINT8", list(raw.shape), raw.ravel().tolist()),
        ("UINT8", list(raw.shape), raw.tolist()),
    ):
        tensor = {"name": "patches", "shape": shape, "datatype": datatype, "data": values}
        answer = service.post("/v2/models/eurosat/infer", json={"id": "7", "inputs": [tensor]})
        assert answer.status_code == 200
        assert answer.json()["id"] == "7"
        probabilities, labels, scores, flags = answer.json()["outputs"]
        assert scores["data"] == [entry["ood"]["score"] for entry in single]
        assert flags["data"] == [entry["ood"]["flag"] for entry in single]
        assert probabilities["shape"] == [3, 10]
        np.testing.assert_allclose(np.reshape(probabilities["data"], (3, 10)), expected, atol=1e-5)
        assert labels["data"] == [entry["label"] for entry in single]


def test_vertex_and_health_are_where_vertex_says(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service(
        env={
            "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict",
            "AIP_HEALTH_ROUTE": "/v1/endpoints/1/deployedModels/2",
        }
    )
    body = {"instances": [{"b64": b64(pictures["Forest.jpg"])}], "parameters": {}}
    answer = service.post("/v1/endpoints/1/deployedModels/2:predict", json=body)
    assert len(answer.json()["predictions"]) == 1
    assert service.get("/v1/endpoints/1/deployedModels/2").json() == {"status": "ready"}


def test_larger_images_are_resized_or_tiled(service: Service, pictures: dict[str, bytes]) -> None:
    left, right = (
        np.asarray(Image.open(io.BytesIO(pictures[name]))) for name in ("Forest.jpg", "SeaLake.jpg")
    )
    resized = service.predict(wide(pictures)).json()
    assert "tiles" not in resized
    tiled = service.predict(wide(pictures), params={"tiles": "true"}).json()
    assert [(tile["x"], tile["y"]) for tile in tiled["tiles"]] == [(0, 0), (64, 0)]
    halves = []
    for half in (left, right):
        png = io.BytesIO()
        Image.fromarray(half).save(png, "PNG")
        halves.append(service.predict(png.getvalue()).json()["probabilities"])
    for tile, half in zip(tiled["tiles"], halves, strict=True):
        assert tile["probabilities"] == pytest.approx(half, abs=1e-5)
    for name, value in tiled["probabilities"].items():
        assert value == pytest.approx((halves[0][name] + halves[1][name]) / 2, abs=1e-5)


def test_tiles_cover_all_of_an_image_of_any_size(service: Service) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (150, 70)).save(buffer, "PNG")
    tiles = service.predict(buffer.getvalue(), params={"tiles": "true"}).json()["tiles"]
    assert [(tile["x"], tile["y"]) for tile in tiles] == [
        (0, 0),
        (43, 0),
        (86, 0),
        (0, 6),
        (43, 6),
        (86, 6),
    ]


def test_saliency_points_to_where_the_picture_is(service: Service) -> None:
    from eurosat.data.synthetic import synthetic_patch

    answer = service.post("/explain", files={"file": jpeg(synthetic_patch("River", 7, 2))}).json()
    saliency = np.array(answer["saliency"])
    assert saliency.shape == (8, 8)
    assert np.abs(saliency).max() > 0
    assert answer["picture"].startswith("data:image/png;base64,")
    uniform = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 90, 90)).save(uniform, "PNG")
    flat = service.post("/explain", files={"file": uniform.getvalue()}).json()
    np.testing.assert_allclose(flat["saliency"], 0, atol=1e-4)  # nothing to hide there


def test_info_gives_the_card_and_metrics_count(
    service: Service, onnx_model: Path, pictures: dict[str, bytes]
) -> None:
    info = service.get("/info").json()
    card = open_model(onnx_model).card
    assert info["model"]["version"] == card.version
    assert info["model"]["classes"] == list(CLASSES)
    assert info["model"]["data"]["fingerprint"]
    assert info["limits"]["max_images"] == 128

    value = service.metric
    label = service.predict(pictures["Forest.jpg"]).json()["label"]
    before = value(f'eurosat_predictions_total{{label="{label}"}}')
    answered = value('eurosat_requests_total{route="/predict",status="200"}')
    batches = value("eurosat_batch_images_count")
    service.predict(pictures["Forest.jpg"])
    assert value(f'eurosat_predictions_total{{label="{label}"}}') == before + 1
    assert value('eurosat_requests_total{route="/predict",status="200"}') == answered + 1
    assert value("eurosat_batch_images_count") == batches + 1  # counted in the worker's process
    assert value("eurosat_model_info") == 1


def predictions(pictures: dict[str, bytes]) -> dict[str, list[tuple[dict[str, Any], int]]]:
    """For the path of every route that predicts: requests, and how many images each holds."""
    files = list(pictures.values())[:3]
    raw = np.concatenate(list(map(pixels, files)))

    def tensor(datatype: str, shape: tuple[int, ...], data: list[Any]) -> dict[str, Any]:
        entry = {"name": "patches", "shape": list(shape), "datatype": datatype, "data": data}
        return {"json": {"inputs": [entry]}}

    infer = [
        (tensor("BYTES", (3,), list(map(b64, files))), 3),
        (tensor("UINT8", raw.shape, raw.ravel().tolist()), 3),
    ]
    return {
        "/predict": [
            ({"files": {"file": files[0]}}, 1),
            ({"files": [("file", ("a.jpg", data)) for data in [*files, b"unreadable"]]}, 3),
            ({"json": {"images": list(map(b64, files))}}, 3),
            ({"files": {"file": wide(pictures)}, "params": {"tiles": "true"}}, 1),
        ],
        "/explain": [({"files": {"file": files[0]}}, 1)],
        "/vertex/predict": [({"json": {"instances": [{"b64": b64(d)} for d in files]}}, 3)],
        "/v2/models/{name}/infer": infer,
        "/v2/models/{name}/versions/{version}/infer": infer,
    }


def test_every_prediction_of_every_protocol_is_observed(
    service: Service, front: Front, pictures: dict[str, bytes]
) -> None:
    requests = predictions(pictures)
    routes = {
        str(route.path).replace("/v1/endpoints/1:predict", "/vertex/predict")
        for route in iter_route_contexts(front.app.routes)
        if "POST" in (route.methods or ()) and not is_public(route.endpoint)
    }
    assert set(requests) == routes, "a new protocol adds its requests to `predictions`"
    counts = ("eurosat_predictions_total", "eurosat_confidence_count")
    version = service.get("/v2").json()["version"]
    for route, entries in requests.items():
        path = route.format(name="eurosat", version=version)
        for options, images in entries:
            before = [service.metric(count) for count in counts]
            assert service.post(path, **options).status_code == 200
            after = [service.metric(count) for count in counts]
            assert [b - a for a, b in zip(before, after, strict=True)] == [images, images], path


def test_what_is_observed_is_the_prediction_of_the_image(
    service: Service, pictures: dict[str, bytes]
) -> None:
    file = {"file": wide(pictures)}
    answer = service.predict(file["file"], params={"tiles": "true"}).json()
    label, confidence = answer["label"], max(answer["probabilities"].values())
    counter, total = f'eurosat_predictions_total{{label="{label}"}}', "eurosat_confidence_sum"
    before = service.metric(counter), service.metric(total)
    service.post("/predict", files=file, params={"tiles": "true"})
    assert service.metric(counter) == before[0] + 1
    assert service.metric(total) - before[1] == pytest.approx(confidence, abs=1e-4)
    before = service.metric(total)
    explained = service.post("/explain", files={"file": pictures["Forest.jpg"]}).json()
    confidence = max(explained["probabilities"].values())
    assert service.metric(total) - before == pytest.approx(confidence, abs=1e-4)


def test_a_request_that_fails_observes_nothing(
    service: Service, pictures: dict[str, bytes]
) -> None:
    before = service.metric("eurosat_confidence_count")
    tensor = {
        "name": "patches",
        "shape": [2],
        "datatype": "BYTES",
        "data": [b64(pictures["Forest.jpg"]), b64(b"no image")],
    }
    answer = service.post("/v2/models/eurosat/infer", json={"inputs": [tensor]})
    assert answer.status_code == 422
    assert service.metric("eurosat_confidence_count") == before


def test_a_request_keeps_its_id(service: Service, pictures: dict[str, bytes]) -> None:
    answer = service.predict(pictures["River.jpg"], headers={"X-Request-ID": "abc-1"})
    assert answer.headers["X-Request-ID"] == "abc-1"
    assert len(answer.json()["id"]) == 32  # the service's own id, by which the log finds it
    answer = service.predict(pictures["River.jpg"], headers={"X-Request-ID": "<script>"})
    assert "<" not in answer.headers["X-Request-ID"]
