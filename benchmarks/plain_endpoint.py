"""What the service is measured against: FastAPI and eager PyTorch, one image a request.

The model runs in the event loop. FastAPI's other way, a plain function in its thread pool, is half
as fast here: torch's own threads get in each other's way.
"""

import io
import os

import numpy as np
import torch
from fastapi import FastAPI, UploadFile
from PIL import Image

from eurosat.models.classifier import EuroSATClassifier

MODEL = EuroSATClassifier.load_from_checkpoint(os.environ["CHECKPOINT"]).eval()
app = FastAPI()


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ready"}


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, object]:
    pixels = np.asarray(Image.open(io.BytesIO(await file.read())).convert("RGB"))
    patch = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    with torch.inference_mode():
        probabilities = MODEL(patch).softmax(dim=1)[0]
    return {
        "label": MODEL.classes[int(probabilities.argmax())],
        "probabilities": dict(zip(MODEL.classes, probabilities.tolist(), strict=True)),
    }
