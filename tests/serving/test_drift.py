"""From the requests of a service to the report on drift."""

import json
from html import escape
from pathlib import Path

import pytest

from eurosat.cli import main
from eurosat.data.synthetic import synthetic_patch
from eurosat.labels import CLASSES
from tests.conftest import jpeg
from tests.serving.conftest import StartService
from tests.serving.test_prediction_log import logging_to


def test_the_report_counts_the_requests_of_a_service(
    start_service: StartService,
    onnx_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = [
        jpeg(synthetic_patch(CLASSES[number % len(CLASSES)], 7, number)) for number in range(125)
    ]
    service = start_service(*logging_to(tmp_path))
    predicted = [service.predict(image).json() for image in images[:120]]
    files = [("file", ("image.jpg", image)) for image in images[120:]]
    predicted.append(service.post("/predict", files=files).json()["predictions"][0])
    assert service.predict(b"no image").status_code == 422
    assert service.stop() == 0

    options = [f"--log={tmp_path}/log", f"--output={tmp_path}/drift"]
    assert main(["drift", "report", f"--reference={onnx_model}", *options]) == 0
    report = json.loads((tmp_path / "drift/drift.json").read_text())
    assert report["requests"] == report["pictures"] == 121  # a request of five images counts once
    assert report["model_version"] == predicted[0]["model_version"]
    assert report["too_few"] is False
    assert report["verdict"] in ("quiet", "drift")  # of ten validation images, both are possible
    (window,) = report["windows"]
    assert (window["pictures"], window["requests"]) == (121, 121)
    assert {name: bool(family["tests"]) for name, family in window["families"].items()} == {
        "statistics": True,
        "probabilities": True,
        "classes": True,
        "embeddings": True,
    }
    for test in window["families"]["classes"]["tests"]:
        count = sum(each["label"] == test["name"] for each in predicted)
        assert test["after"] * 121 == pytest.approx(count, abs=1)  # one of five images
    page = (tmp_path / "drift/drift.html").read_text("utf-8")
    assert escape(report["sentence"]) in page
    assert report["sentence"] in capsys.readouterr().out
