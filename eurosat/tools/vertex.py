"""``eurosat vertex submit``: train, tune or serve on Vertex AI."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal


def vertex(
    action: Literal["submit"],
    spec: Path,
    *,
    settings: Path | None = None,
    project: str | None = None,
    region: str | None = None,
    bucket: str | None = None,
    image: str | None = None,
    service_account: str | None = None,
    labels: dict[str, str] | None = None,
    name: str | None = None,
    arguments: list[str] | None = None,
    hours: float | None = None,
    price: float | None = None,
    dry_run: bool = False,
) -> int:
    """Send a spec to Vertex AI: a training job, a search for hyperparameters, or an endpoint.

    The command fills the placeholders of the spec, such as ${bucket}, with the settings and options
    below, checks the keys, the values and the arguments of the job, and sends the spec without
    asking for confirmation. For a job, the command then shows the job's log until the job
    ends; if the command is stopped, the job goes on. For an endpoint, the command ends when the
    model is deployed. The exit code is 1 if the job fails.

    Vertex AI is Google Cloud's service for machine learning.

    Args:
        action: What to do with the spec; 'submit' is the only action.
        spec: YAML file that describes the job or the endpoint, such as vertex/gpu.yaml.
        settings: YAML file with project, region, bucket, image, service_account and labels; the
            options below take precedence. Default: vertex/settings.yaml, if there is such a file.
        project: Project of Google Cloud.
        region: Region, such as europe-west4.
        bucket: Name of the bucket for run folders, without gs://.
        image: Container image, built by 'make train-image' or, for an endpoint, by 'make
            serve-image', and pushed to a registry that Vertex AI can read.
        service_account: Account of the job or of the deployed model; if not given, Vertex AI's own
            account.
        labels: Labels of the job, such as '{team: land}', added to the labels of the settings.
        name: Name of the job and of its folder in the bucket, or of the endpoint. To
            continue a run that ended too early, pass the name of its job. Default: <name of
            the spec's file>-<UTC time>.
        arguments: Further arguments of the command in the container, such as
            '[--trainer.max_epochs=5]'.
        hours: Expected duration in hours, for the cost. Default: the hours in the spec.
        price: Price of one machine for an hour, in any currency. With a price, the command also
            shows the expected cost.
        dry_run: Check the spec, show the request and send nothing. A dry run needs no credentials.
    """
    from eurosat.vertex.settings import read_settings
    from eurosat.vertex.spec import fill_spec

    merged = read_settings(settings).override(
        project=project,
        region=region,
        bucket=bucket,
        image=image,
        service_account=service_account,
        labels=labels,
    )
    name = name or f"{spec.stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    request = fill_spec(spec, merged, name, arguments or [], hours)
    if dry_run:
        print(f"parent {request.parent}")
        for part, message in request.messages.items():
            print(f"{part} {type(message).to_json(message, use_integers_for_enums=False)}")
    if price is not None:
        print(f"cost   {request.cost(price)}")
    if dry_run:
        return 0
    from eurosat.vertex.submit import submit

    assert merged.region is not None  # fill_spec refuses a spec without a region
    needs_bucket = request.kind != "Endpoint"
    done = submit(request, merged.region, merged.bucket if needs_bucket else None)
    return 0 if done else 1
