"""Sending jobs and models to Vertex AI, and following a job to its end."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from eurosat.errors import VertexError
from eurosat.vertex.spec import Request

_SECONDS_BETWEEN_LOOKS = 10.0
_OVERLAP = timedelta(minutes=1)
"""Entries of a log can arrive late and out of order."""

_PARTS = ("model", "endpoint", "deployment")
_SUCCEEDED = "JOB_STATE_SUCCEEDED"
_ENDED = frozenset(
    {
        _SUCCEEDED,
        "JOB_STATE_PARTIALLY_SUCCEEDED",
        "JOB_STATE_FAILED",
        "JOB_STATE_CANCELLED",
        "JOB_STATE_EXPIRED",
    }
)


def submit(request: Request, region: str, bucket: str | None) -> bool:
    """Send a request, and follow the job until it ends.

    Args:
        request: The checked request.
        region: Region of the service.
        bucket: Bucket of the run folder, which must exist; None if the request needs none.

    Returns:
        Whether the job succeeded, or the model is deployed.

    Raises:
        VertexError: There are no credentials, the bucket does not exist, or Vertex AI refuses the
            request.
    """
    from google.api_core.client_options import ClientOptions

    options = ClientOptions(api_endpoint=f"{region}-aiplatform.googleapis.com")
    with _named_errors():
        if bucket is not None:
            _check_bucket(bucket)
        match request.kind:
            case "CustomJob" | "HyperparameterTuningJob":
                return _follow(request, options)
            case "Endpoint":
                _deploy(request, options)
                return True


def _check_bucket(bucket: str) -> None:
    import gcsfs

    if not gcsfs.GCSFileSystem().exists(bucket):
        raise VertexError(
            f"there is no bucket {bucket}, or this account may not read it: make the bucket in the "
            "region of the job, or pass another --bucket"
        )


def _follow(request: Request, options: Any) -> bool:
    """Send a job, show the job's log, and return whether the job succeeded."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.cloud import aiplatform_v1

    client = aiplatform_v1.JobServiceClient(client_options=options)
    (message,) = request.messages.values()
    _refuse_running(client, request)
    if request.kind == "CustomJob":
        job: Any = client.create_custom_job(parent=request.parent, custom_job=message)
        look, group = client.get_custom_job, "custom-jobs"
    else:
        job = client.create_hyperparameter_tuning_job(
            parent=request.parent, hyperparameter_tuning_job=message
        )
        look, group = client.get_hyperparameter_tuning_job, "hp-tuning-jobs"
    print(f"job    {job.name}")
    print(
        "If this command is stopped, the job goes on; this command shows the job's log again:\n"
        f"       gcloud ai {group} stream-logs {job.name}",
        flush=True,
    )
    logs = _Logs(request.parent.split("/")[1], job.name.rpartition("/")[2])
    state = ""
    while state not in _ENDED:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        logs.show_new()
        try:
            job = look(name=job.name)
        except (GoogleAPICallError, RetryError) as error:  # the job goes on
            print(f"state  unknown ({error.__class__.__name__}), asking again", file=sys.stderr)
            continue
        if job.state.name != state:
            state = job.state.name
            print(f"state  {state}", flush=True)
    logs.show_new()
    if state != _SUCCEEDED:
        print(f"the job ended with {state}: {job.error.message}", file=sys.stderr)
    return state == _SUCCEEDED


def _refuse_running(client: Any, request: Request) -> None:
    """Refuse a job whose run folder another job writes to; a lock does not work in a bucket."""
    (message,) = request.messages.values()
    found = {"parent": request.parent, "filter": f'display_name="{message.display_name}"'}
    if request.kind == "CustomJob":
        jobs = client.list_custom_jobs(request=found)
    else:
        jobs = client.list_hyperparameter_tuning_jobs(request=found)
    for job in jobs:
        if job.state.name not in _ENDED:
            raise VertexError(
                f"{job.name} has the name {message.display_name} and has not ended, and both jobs "
                "would write to one folder: wait for the end of the job, cancel the job, or pass "
                "another --name"
            )


class _Logs:
    """Shows the log of a job."""

    def __init__(self, project: str, job: str) -> None:
        from google.cloud import logging

        self._client: Any = logging.Client(project=project)  # type: ignore[no-untyped-call]
        self._filter = f'resource.labels.job_id="{job}"'
        self._since = datetime.now(UTC)
        self._seen: set[str] = set()

    def show_new(self) -> None:
        """Print the entries that have not been printed; an error leaves them for the next call."""
        from google.api_core.exceptions import GoogleAPICallError, RetryError

        condition = f'{self._filter} timestamp>="{(self._since - _OVERLAP).isoformat()}"'
        try:
            found = list(
                self._client.list_entries(
                    filter_=condition, order_by="timestamp asc", page_size=1000
                )
            )
        except (GoogleAPICallError, RetryError) as error:
            print(f"the log cannot be read now ({error.__class__.__name__})", file=sys.stderr)
            return
        for entry in found:
            if entry.insert_id in self._seen:
                continue
            self._seen.add(entry.insert_id)
            self._since = max(self._since, entry.timestamp)
            payload = entry.payload
            text = payload.get("message", payload) if isinstance(payload, dict) else payload
            print(f"{entry.timestamp:%H:%M:%S} {text}", flush=True)


def _deploy(request: Request, options: Any) -> None:
    """Upload a model, create an endpoint, and deploy the model there."""
    from google.cloud import aiplatform_v1

    models: Any = aiplatform_v1.ModelServiceClient(client_options=options)
    endpoints: Any = aiplatform_v1.EndpointServiceClient(client_options=options)
    model, endpoint, deployment = (request.messages[part] for part in _PARTS)
    name = f'display_name="{endpoint.display_name}"'
    for existing in endpoints.list_endpoints(request={"parent": request.parent, "filter": name}):
        raise VertexError(
            f"{existing.name} has the name {endpoint.display_name}: pass another --name, or delete "
            "the endpoint"
        )
    uploaded = models.upload_model(parent=request.parent, model=model).result()
    print(f"model     {uploaded.model}", flush=True)
    created = endpoints.create_endpoint(parent=request.parent, endpoint=endpoint).result()
    print(f"endpoint  {created.name}", flush=True)
    deployment.model = uploaded.model
    deployed = endpoints.deploy_model(
        endpoint=created.name, deployed_model=deployment, traffic_split={"0": 100}
    ).result()
    print(
        f"deployed  {uploaded.model} at {created.name}\n"
        "The machines cost money until these commands end them:\n"
        f"          gcloud ai endpoints undeploy-model {created.name} "
        f"--deployed-model-id {deployed.deployed_model.id}\n"
        f"          gcloud ai endpoints delete {created.name}"
    )


@contextmanager
def _named_errors() -> Iterator[None]:
    """Turn the errors of Google's libraries into VertexError."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except GoogleAuthError as error:
        raise VertexError(
            f"there are no usable credentials ({' '.join(str(error).split())}): run 'gcloud auth "
            "application-default login', or set GOOGLE_APPLICATION_CREDENTIALS"
        ) from error
    except GoogleAPICallError as error:
        raise VertexError(
            f"Vertex AI refuses the request ({' '.join(str(error).split())}): correct the spec, or "
            "the rights of the account"
        ) from error
