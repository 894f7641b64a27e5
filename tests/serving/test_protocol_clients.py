"""The clients of Triton and KServe against the service, in the environment that has them."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.serving.conftest import Service

MANUAL = REPOSITORY / "docs/howto/serve.md"

RunClient = Callable[[str, str], str]

TRITON = """
import json, sys
from pathlib import Path
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

files = sorted(Path("pictures").glob("*.jpg"))
client = triton.InferenceServerClient("localhost:8000")
version = client.get_server_metadata()["version"]
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
assert client.is_server_live() and client.is_server_ready()
for asked in ("", version):
    assert client.is_model_ready("eurosat", asked)
    assert client.get_model_metadata("eurosat", asked)["versions"] == [version]
assert not client.is_model_ready("eurosat", "1") and not client.is_model_ready("other")

def images(names):
    return np.array(names, dtype=object)

def infer(data, datatype, binary, outputs=None, **options):
    tensor = triton.InferInput("patches", list(data.shape), datatype)
    tensor.set_data_from_numpy(data, binary_data=binary)
    return client.infer("eurosat", [tensor], outputs=outputs, **options)

raw = np.random.default_rng(1).integers(0, 256, (2, 3, 64, 64), np.uint8)
both = [infer(raw, "UINT8", binary) for binary in (True, False)]
assert np.array_equal(*(answer.as_numpy("probabilities") for answer in both))
import base64
sent = [file.read_bytes() for file in files]
answers = [
    infer(images(sent), "BYTES", True),
    infer(images([base64.b64encode(data) for data in sent]), "BYTES", False),
    infer(images(sent), "BYTES", True, model_version=version, request_id="7"),
    infer(images(sent), "BYTES", True, [
        triton.InferRequestedOutput(name, binary_data=binary)
        for name, binary in (("label", True), ("probabilities", False), ("ood_flag", False))
    ]),
]
assert answers[2].get_response()["id"] == "7"
for answer in answers[1:]:
    for name in ("label", "probabilities"):
        assert answer.as_numpy(name).tolist() == answers[0].as_numpy(name).tolist(), name
assert answers[0].as_numpy("ood_flag").dtype == bool
errors = []
for options in (
    {"request_compression_algorithm": "gzip"},
    {"request_compression_algorithm": "deflate"},
    {"priority": 1},
    {"outputs": [triton.InferRequestedOutput("logits")]},
    {"outputs": [triton.InferRequestedOutput("label", class_count=2)]},
    {"model_version": "1"},
):
    try:
        infer(raw, "UINT8", True, **options)
    except InferenceServerException as error:
        errors.append([error.status(), error.message()])
labels = [label.decode() for label in answers[0].as_numpy("label")]
json.dump({"labels": labels, "errors": errors}, sys.stdout)
"""

KSERVE = """
import asyncio, base64, json, sys
from pathlib import Path
import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

URL = "http://localhost:8000"
sent = [file.read_bytes() for file in sorted(Path("pictures").glob("*.jpg"))]

async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(URL) and await client.is_server_ready(URL)
    assert await client.is_model_ready(URL, "eurosat")
    assert not await client.is_model_ready(URL, "other")

    async def infer(data, datatype, binary, name="patches", **options):
        tensor = InferInput(name, list(data.shape), datatype)
        tensor.set_data_from_numpy(data, binary_data=binary)
        request = InferRequest("eurosat", [tensor], **options)
        answer = await client.infer(URL, request, model_name="eurosat")
        return {output.name: output.as_numpy().tolist() for output in answer.outputs}

    raw = np.random.default_rng(1).integers(0, 256, (2, 3, 64, 64), np.uint8)
    assert await infer(raw, "UINT8", True) == await infer(raw, "UINT8", False)
    files = np.array(sent, dtype=object)
    texts = np.array([base64.b64encode(data) for data in sent], dtype=object)
    answer = await infer(files, "BYTES", True)
    assert answer == await infer(texts, "BYTES", False)
    binary = {"parameters": {"binary_data_output": True}}
    assert (await infer(files, "BYTES", True, **binary))["label"] == answer["label"]
    chosen = {"request_outputs": [RequestedOutput("label", {"binary_data": True})]}
    assert await infer(files, "BYTES", True, **chosen) == {"label": answer["label"]}
    errors = []
    try:
        await infer(raw, "UINT8", True, name="x")
    except httpx.HTTPStatusError as error:
        errors.append([str(error.response.status_code), str(error)])
    json.dump({"labels": answer["label"], "errors": errors}, sys.stdout)

asyncio.run(main())
"""


@pytest.fixture(scope="session")
def run_client(
    service: Service, pictures: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> RunClient:
    """Runs a program of a client beside a folder of pictures, and gives what it prints."""
    python = os.environ.get("EUROSAT_CLIENTS_PYTHON", REPOSITORY / ".venv-clients/bin/python")
    folder = tmp_path_factory.mktemp("clients")
    (folder / "pictures").mkdir()
    for name, data in pictures.items():
        (folder / "pictures" / name).write_bytes(data)

    def run(package: str, program: str) -> str:
        # Nothing of this project's environment may reach that of the clients.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        options: dict[str, Any] = {"cwd": folder, "env": env, "capture_output": True, "text": True}
        found = Path(python).exists() and subprocess.run(
            [python, "-c", f"import {package}"], **options
        )
        if not found or found.returncode:
            pytest.skip(f"{python} has no {package}: 'make test' makes an environment with it")
        program = program.replace("localhost:8000", service.url.removeprefix("http://"))
        done = subprocess.run([python, "-c", program], **options)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    return run


def labels(service: Service, pictures: dict[str, bytes]) -> list[str]:
    return [service.predict(pictures[name]).json()["label"] for name in sorted(pictures)]


def test_tritons_client_infers(
    run_client: RunClient, service: Service, pictures: dict[str, bytes]
) -> None:
    found = json.loads(run_client("tritonclient.http", TRITON))
    assert found["labels"] == labels(service, pictures)
    statuses, messages = zip(*found["errors"], strict=True)
    assert statuses == ("415", "415", "422", "422", "422", "404")
    for message, words in zip(
        messages,
        ("gzip", "deflate", "priority", "'logits'", "classification", "no version '1'"),
        strict=True,
    ):
        assert words in message


def test_kserves_client_infers(
    run_client: RunClient, service: Service, pictures: dict[str, bytes]
) -> None:
    found = json.loads(run_client("kserve", KSERVE))
    assert found["labels"] == labels(service, pictures)
    ((status, message),) = found["errors"]
    assert (status, "the input 'x' is unknown" in message) == ("422", True)


@pytest.mark.parametrize("package", ["tritonclient.http", "kserve"])
def test_the_programs_of_the_manual_run(
    package: str, run_client: RunClient, service: Service, pictures: dict[str, bytes]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", MANUAL.read_text("utf-8"), re.M | re.S)
    (program,) = (block for block in blocks if f"from {package} import" in block)
    printed = run_client(package, program)
    if package == "kserve":
        assert "probabilities [2, 10]" in printed
    else:
        expected = zip(sorted(pictures), labels(service, pictures), strict=True)
        assert printed.splitlines() == [" ".join(pair) for pair in expected]
