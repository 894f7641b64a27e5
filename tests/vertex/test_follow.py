"""`eurosat vertex submit` against stand-ins of Vertex AI, Cloud Logging and Cloud Storage."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from eurosat.cli import main
from tests.conftest import REPOSITORY
from tests.pipeline import gcs_emulator

pytest.importorskip("google.cloud.aiplatform_v1")

import gcsfs
import grpc
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.cloud import aiplatform_v1 as vertex
from google.cloud.logging_v2.types import ListLogEntriesRequest, ListLogEntriesResponse, LogEntry
from google.longrunning.operations_pb2 import Operation
from google.protobuf.any_pb2 import Any as AnyMessage

from eurosat.vertex import submit
from tests.vertex.google_services import Answer, google_services

pytestmark = pytest.mark.service

OPTIONS = ["--project=p", "--region=europe-west4", "--bucket=runs", "--image=i", "--name=one"]
JOB = "projects/p/locations/europe-west4/customJobs/17"
States = list[vertex.JobState | grpc.StatusCode]


class VertexAI:
    """A stand-in that remembers what it was sent; its job goes through the given states."""

    def __init__(self, states: States) -> None:
        self.states = iter(states)
        self.others = [vertex.JobState.JOB_STATE_CANCELLED]
        self.created: list[Any] = []
        self.looks = 0
        self.filters: list[str] = []

    def methods(self) -> dict[str, tuple[Any, Answer]]:
        jobs = "/google.cloud.aiplatform.v1.JobService"
        return {
            f"{jobs}/ListCustomJobs": (vertex.ListCustomJobsRequest, self.list),
            f"{jobs}/ListHyperparameterTuningJobs": (
                vertex.ListHyperparameterTuningJobsRequest,
                lambda _: vertex.ListHyperparameterTuningJobsResponse(),
            ),
            f"{jobs}/CreateCustomJob": (vertex.CreateCustomJobRequest, self.create),
            f"{jobs}/GetCustomJob": (vertex.GetCustomJobRequest, self.look),
            f"{jobs}/CreateHyperparameterTuningJob": (
                vertex.CreateHyperparameterTuningJobRequest,
                self.create,
            ),
            f"{jobs}/GetHyperparameterTuningJob": (
                vertex.GetHyperparameterTuningJobRequest,
                self.look,
            ),
            "/google.logging.v2.LoggingServiceV2/ListLogEntries": (
                ListLogEntriesRequest,
                self.log,
            ),
        }

    def list(self, request: Any) -> Any:
        assert request.filter == 'display_name="one"'
        return vertex.ListCustomJobsResponse(
            custom_jobs=[vertex.CustomJob(name=JOB, state=state) for state in self.others]
        )

    def create(self, request: Any) -> Any:
        self.created.append(request)
        if isinstance(request, vertex.CreateCustomJobRequest):
            return vertex.CustomJob(name=JOB)
        return vertex.HyperparameterTuningJob(name=JOB)

    def look(self, request: Any) -> Any:
        self.looks += 1
        state = next(self.states)
        if isinstance(state, grpc.StatusCode):
            return state
        is_custom = isinstance(request, vertex.GetCustomJobRequest)
        message = vertex.CustomJob if is_custom else vertex.HyperparameterTuningJob
        error = {"message": "out of memory"} if state == vertex.JobState.JOB_STATE_FAILED else None
        return message(name=JOB, state=state, error=error)

    def log(self, request: Any) -> Any:
        """All entries so far, whatever time is asked for; the first call finds no service."""
        self.filters.append(request.filter)
        if len(self.filters) == 1:
            return grpc.StatusCode.RESOURCE_EXHAUSTED
        entries = [
            LogEntry(
                log_name="projects/p/logs/workerpool0-0",
                insert_id=str(number),
                timestamp=f"2026-01-01T00:00:{number:02}Z",
                json_payload={"message": f"epoch {number} ended"},
                resource={"type": "ml_job"},
            )
            for number in range(len(self.filters))
        ]
        return ListLogEntriesResponse(entries=entries)


class Tokens(BaseHTTPRequestHandler):
    """Gives a token for any key, as Google's token service does for the key of an account."""

    def do_POST(self) -> None:
        body = b'{"access_token": "t", "token_type": "Bearer", "expires_in": 3600}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def token_service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Tokens) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/token"
        server.shutdown()


@pytest.fixture
def credentials(tmp_path: Path, token_service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of an account that only the stand-ins know."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    account = {
        "type": "service_account",
        "project_id": "p",
        "private_key": key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ).decode(),
        "client_email": "me@p.example",
        "token_uri": token_service,
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(submit, "_SECONDS_BETWEEN_LOOKS", 0.01)


@pytest.fixture(autouse=True)
def bucket(monkeypatch: pytest.MonkeyPatch, credentials: None) -> Iterator[None]:
    gcsfs.GCSFileSystem.clear_instance_cache()  # or it would talk to an earlier test's emulator
    with gcs_emulator("runs") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield


def test_a_job_is_followed_to_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = vertex.JobState
    service = VertexAI(
        [
            state.JOB_STATE_PENDING,
            grpc.StatusCode.INTERNAL,
            state.JOB_STATE_RUNNING,
            state.JOB_STATE_RUNNING,
            state.JOB_STATE_SUCCEEDED,
        ]
    )
    with google_services(service.methods(), monkeypatch):
        assert main(["vertex", "submit", "vertex/spot.yaml", *OPTIONS]) == 0
    (created,) = service.created
    assert created.parent == "projects/p/locations/europe-west4"
    pool = created.custom_job.job_spec.worker_pool_specs[0]
    assert "--run_directory=/gcs/runs/eurosat/one" in pool.container_spec.args
    assert created.custom_job.job_spec.scheduling.strategy.name == "SPOT"
    shown = capsys.readouterr()
    assert f"job    {JOB}" in shown.out
    assert f"gcloud ai custom-jobs stream-logs {JOB}" in shown.out
    states = [line.split()[1] for line in shown.out.splitlines() if line.startswith("state")]
    assert states == ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]
    assert "state  unknown (InternalServerError), asking again" in shown.err
    assert "the log cannot be read now (ResourceExhausted)" in shown.err
    entries = [line for line in shown.out.splitlines() if line.endswith("ended")]
    assert entries == [f"00:00:{n:02} epoch {n} ended" for n in range(len(entries))]
    assert len(entries) == service.looks + 1  # read once more after the end, each entry shown once
    assert all('resource.labels.job_id="17"' in condition for condition in service.filters)


def test_a_search_that_fails_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = VertexAI([vertex.JobState.JOB_STATE_FAILED])
    with google_services(service.methods(), monkeypatch):
        assert main(["vertex", "submit", "vertex/tuning.yaml", *OPTIONS]) == 1
    assert service.created[0].hyperparameter_tuning_job.max_trial_count == 20
    error = capsys.readouterr().err
    assert "the job ended with JOB_STATE_FAILED: out of memory" in error


def test_two_jobs_do_not_write_to_one_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = VertexAI([])
    service.others.append(vertex.JobState.JOB_STATE_RUNNING)
    with google_services(service.methods(), monkeypatch):
        assert main(["vertex", "submit", "vertex/gpu.yaml", *OPTIONS]) == 2
    assert f"{JOB} has the name one and has not ended" in capsys.readouterr().err
    assert not service.created


def test_a_refusal_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = VertexAI([])
    methods = service.methods()
    name = "/google.cloud.aiplatform.v1.JobService/CreateCustomJob"
    methods[name] = (vertex.CreateCustomJobRequest, lambda _: grpc.StatusCode.PERMISSION_DENIED)
    with google_services(methods, monkeypatch):
        assert main(["vertex", "submit", "vertex/gpu.yaml", *OPTIONS]) == 2
    assert "Vertex AI refuses the request (403 as the test wants)" in capsys.readouterr().err


def test_a_bucket_that_does_not_exist_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = VertexAI([])
    options = [*OPTIONS, "--bucket=none"]
    with google_services(service.methods(), monkeypatch):
        assert main(["vertex", "submit", "vertex/gpu.yaml", *options]) == 2
    assert "there is no bucket none" in capsys.readouterr().err
    assert not service.created


def test_an_endpoint_serves_the_uploaded_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = "projects/p/locations/europe-west4/models/3"
    endpoint = "projects/p/locations/europe-west4/endpoints/5"
    deployed: list[Any] = []
    existing: list[Any] = []

    def done(response: Any) -> Any:
        packed = AnyMessage()
        packed.Pack(type(response).pb(response))
        return Operation(name="operations/1", done=True, response=packed)

    def deploy(request: Any) -> Any:
        deployed.append(request)
        return done(vertex.DeployModelResponse(deployed_model={"id": "9"}))

    models = "/google.cloud.aiplatform.v1.ModelService"
    endpoints = "/google.cloud.aiplatform.v1.EndpointService"
    methods: dict[str, tuple[Any, Answer]] = {
        f"{models}/UploadModel": (
            vertex.UploadModelRequest,
            lambda _: done(vertex.UploadModelResponse(model=model)),
        ),
        f"{endpoints}/ListEndpoints": (
            vertex.ListEndpointsRequest,
            lambda _: vertex.ListEndpointsResponse(endpoints=existing),
        ),
        f"{endpoints}/CreateEndpoint": (
            vertex.CreateEndpointRequest,
            lambda _: done(vertex.Endpoint(name=endpoint)),
        ),
        f"{endpoints}/DeployModel": (vertex.DeployModelRequest, deploy),
    }
    with google_services(methods, monkeypatch):
        assert main(["vertex", "submit", "vertex/endpoint.yaml", *OPTIONS]) == 0
        existing.append(vertex.Endpoint(name=endpoint))
        assert main(["vertex", "submit", "vertex/endpoint.yaml", *OPTIONS]) == 2
    (request,) = deployed
    assert request.endpoint == endpoint
    assert request.deployed_model.model == model
    assert dict(request.traffic_split) == {"0": 100}
    shown = capsys.readouterr()
    assert f"deployed  {model} at {endpoint}" in shown.out
    assert f"undeploy-model {endpoint} --deployed-model-id 9" in shown.out
    assert f"{endpoint} has the name one: pass another --name" in shown.err
