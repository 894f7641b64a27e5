"""A service of a model that takes Sentinel-2 bands."""

import base64
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from eurosat.bands import BANDS
from eurosat.cli import main
from eurosat.data.synthetic import synthetic_patch
from eurosat.inference.runtime import open_model
from tests.conftest import Run, geotiff
from tests.serving.conftest import StartService


def test_bands_are_served_as_they_were_trained(
    run: Callable[..., Run],
    start_service: StartService,
    multispectral: bytes,
    pictures: dict[str, bytes],
) -> None:
    trained = run("fit", '--data.bands=["B08", "B03"]', "--trainer.limit_train_batches=2")
    model_file = trained.folder / "model.onnx"
    assert main(["export", str(trained.best), f"--output={model_file}"]) == 0
    service = start_service(model=model_file)

    patch = synthetic_patch("Forest", 7, 1)
    positions = [[band.name for band in BANDS].index(name) for name in ("B08", "B03")]
    raw = np.ascontiguousarray(patch[..., positions].transpose(2, 0, 1)[None])
    expected = open_model(model_file).predict(raw)[0]

    answer = service.predict(multispectral, "a.tif").json()
    np.testing.assert_allclose(list(answer["probabilities"].values()), expected, atol=1e-5)
    explained = service.post("/explain", files={"file": multispectral}).json()
    assert np.shape(explained["saliency"]) == (8, 8)
    picture = Image.open(io.BytesIO(base64.b64decode(explained["picture"].partition(",")[2])))
    assert (picture.size, picture.mode) == ((64, 64), "RGB")  # though B08 is no part of it

    tensor = {
        "name": "patches",
        "shape": [1, 2, 64, 64],
        "datatype": "UINT16",
        "data": raw.tolist(),
    }
    before = [service.metric("eurosat_predictions_total"), service.metric("eurosat_confidence_sum")]
    found = service.post("/v2/models/eurosat/infer", json={"inputs": [tensor]}).json()["outputs"]
    np.testing.assert_allclose(found[0]["data"], expected, atol=1e-5)
    after = [service.metric("eurosat_predictions_total"), service.metric("eurosat_confidence_sum")]
    np.testing.assert_allclose(np.subtract(after, before), [1, expected.max()], atol=1e-4)

    wide = geotiff(np.concatenate([patch, patch], axis=1))
    tiled = service.predict(wide, "wide.tif", params={"tiles": "true"}).json()
    assert len(tiled["tiles"]) == 2

    refused = service.predict(pictures["Forest.jpg"])
    assert refused.status_code == 422
    assert "has 3 channels, but Sentinel-2 bands are needed" in refused.json()["error"]

    names = service.get("/examples").json()
    assert all(name.endswith(".tif") for name in names)
    assert service.predict(service.get(f"/examples/{names[0]}").content).status_code == 200
    assert service.stop() == 0
