"""Checks of a filled spec, which refuse what would fail on machines that are paid for."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from eurosat.errors import SettingsError, VertexError
from eurosat.metrics import best_value, logged_names
from eurosat.vertex.machines import check_machine

Kind = Literal["CustomJob", "HyperparameterTuningJob", "Endpoint"]
"""What a spec describes; an Endpoint is a model, an endpoint and the model's deployment."""

_ENDPOINT_KEYS = ("model", "endpoint", "deployment")
_TRAINER_VERBS = ("fit", "validate", "test", "predict")


def check_spec(
    path: Path, kind: Kind, body: dict[str, Any], labels: Mapping[str, str]
) -> tuple[dict[str, Any], tuple[int, int]]:
    """Check the body of a spec, whose placeholders have been filled in.

    Args:
        path: The file of the spec, for error messages.
        kind: What the spec describes.
        body: The filled ``spec``; the labels are added.
        labels: Labels of the project.

    Returns:
        Vertex AI's messages by name, in the order in which they are sent, and the smallest and the
        largest number of machines at the same time, over all pools and trials.

    Raises:
        VertexError: Vertex AI would refuse a key, a value, a machine or an accelerator, or
            ``eurosat`` would refuse the arguments of its command.
    """
    from google.cloud import aiplatform_v1

    match kind:
        case "CustomJob":
            body.setdefault("labels", {}).update(labels)
            message = _parse(path, aiplatform_v1.CustomJob, body)
            machines = _check_job(path, body.get("jobSpec", {}), [[]])
            return {"customJob": message}, (machines, machines)
        case "HyperparameterTuningJob":
            body.setdefault("labels", {}).update(labels)
            message = _parse(path, aiplatform_v1.HyperparameterTuningJob, body)
            _check_metrics(path, body.get("studySpec", {}))
            draws = _draws(path, body.get("studySpec", {}))
            machines = _check_job(path, body.get("trialJobSpec", {}), draws)
            machines *= message.parallel_trial_count
            return {"hyperparameterTuningJob": message}, (machines, machines)
        case "Endpoint":
            return _check_endpoint(path, body, labels)


def _check_endpoint(
    path: Path, body: dict[str, Any], labels: Mapping[str, str]
) -> tuple[dict[str, Any], tuple[int, int]]:
    from google.cloud import aiplatform_v1

    if body.keys() != set(_ENDPOINT_KEYS):
        raise VertexError(
            f"{path}: the spec of an Endpoint has the keys {', '.join(_ENDPOINT_KEYS)}"
        )
    for part in ("model", "endpoint"):
        body[part].setdefault("labels", {}).update(labels)
    types = (aiplatform_v1.Model, aiplatform_v1.Endpoint, aiplatform_v1.DeployedModel)
    messages = {
        part: _parse(path, message, body[part])
        for part, message in zip(_ENDPOINT_KEYS, types, strict=True)
    }
    resources = body["deployment"].get("dedicatedResources", {})
    check_machine(resources.get("machineSpec", {}), f"{path}: deployment")
    smallest = int(resources.get("minReplicaCount", 1))
    return messages, (smallest, int(resources.get("maxReplicaCount", smallest)))


def _parse(path: Path, message: Any, body: dict[str, Any]) -> Any:
    """Parse a body as one of Vertex AI's messages, which refuses unknown keys and values."""
    from google.protobuf import json_format

    parsed = message()
    try:
        json_format.ParseDict(body, message.pb(parsed))
    except json_format.ParseError as error:
        raise VertexError(
            f"{path}: Vertex AI's {message.__name__} does not take this ({error}): correct the spec"
        ) from error
    return parsed


def _check_job(path: Path, job: Mapping[str, Any], draws: list[list[str]]) -> int:
    """Check the pools of a job, and return the job's number of machines.

    Args:
        path: The file of the spec.
        job: A CustomJobSpec.
        draws: Arguments that Vertex AI may append to the arguments of a trial.
    """
    pools = job.get("workerPoolSpecs", [])
    if not pools:
        raise VertexError(f"{path} has no workerPoolSpecs, so the job would have no machine")
    if len(pools) > 2:
        raise VertexError(
            f"{path} has {len(pools)} pools, and only the first two train: put all further "
            "machines into the second pool"
        )
    for number, pool in enumerate(pools):
        check_machine(pool.get("machineSpec", {}), f"{path}: pool {number}")
    if int(pools[0].get("replicaCount", 1)) != 1:
        raise VertexError(
            f"{path}: the first pool of Vertex AI has one machine: set its replicaCount to 1, and "
            "put the other machines into a second pool"
        )
    machines = sum(int(pool.get("replicaCount", 1)) for pool in pools)
    for number, pool in enumerate(pools):
        for settings in _settings_of_runs(path, pool, draws):
            _check_run(f"{path}: pool {number}", settings, pool.get("machineSpec", {}), machines)
    return machines


def _settings_of_runs(
    path: Path, pool: Mapping[str, Any], draws: list[list[str]]
) -> Iterator[dict[str, Any]]:
    """Resolve the arguments of a container with the parser of the command in the container."""
    arguments = [str(argument) for argument in pool.get("containerSpec", {}).get("args", [])]
    if not arguments or arguments[0] not in _TRAINER_VERBS:
        return
    try:
        from eurosat.training.settings import resolve_settings
    except ModuleNotFoundError as error:
        print(
            f"the arguments of 'eurosat {arguments[0]}' are not checked, because {error.name} is "
            "not installed: pip install 'eurosat[train]' to have them checked",
            file=sys.stderr,
        )
        return
    for draw in draws:
        try:
            yield resolve_settings([*arguments, *draw], f"the arguments of {path}")
        except SettingsError as error:
            raise VertexError(str(error)) from error


def _check_run(
    place: str, settings: Mapping[str, Any], machine: Mapping[str, Any], machines: int
) -> None:
    """Check a run's settings against the machines, and that the run folder outlives them."""
    trainer = settings["trainer"]
    if trainer["num_nodes"] != machines:
        raise VertexError(
            f"{place}: the job has {machines} machines and the run uses {trainer['num_nodes']}: "
            f"pass --trainer.num_nodes={machines}"
        )
    accelerators = int(machine.get("acceleratorCount", 0))
    if trainer["accelerator"] in ("gpu", "cuda") and not accelerators:
        raise VertexError(
            f"{place}: the run asks for a GPU and the machine has none: add an accelerator to the "
            "machine, or leave out --trainer.accelerator"
        )
    devices = str(trainer["devices"])  # a number, "auto" or a list
    if accelerators and devices.isdecimal() and int(devices) > accelerators:
        raise VertexError(
            f"{place}: the run asks for {devices} GPUs and the machine has {accelerators}: pass "
            f"--trainer.devices={accelerators}"
        )
    folder = settings.get("run_directory") or settings.get("output_root")
    if folder is not None and not str(folder).startswith("/gcs/"):
        raise VertexError(
            f"{place}: the run folder {folder} is on the disk of the machine, which is deleted "
            "after the job: pass --run_directory=/gcs/${bucket}/..., or in a search "
            "--output_root=/gcs/${bucket}/..."
        )


def _check_metrics(path: Path, study: Mapping[str, Any]) -> None:
    """Check that the trials report the metric of a search, and that the search seeks the best."""
    known = {name.replace("/", "_"): name for name in logged_names() if name.startswith("val/")}
    for metric in study.get("metrics", []):
        name, goal = metric.get("metricId"), str(metric.get("goal", ""))
        if name not in known:
            raise VertexError(
                f"{path}: no trial reports the metric {name}: choose one of {', '.join(known)}"
            )
        better = f"{best_value(known[name])}imize".upper()
        if goal.upper() != better:
            raise VertexError(
                f"{path}: the search looks for the worst {name}: set the goal to {better}"
            )


def _draws(path: Path, study: Mapping[str, Any]) -> list[list[str]]:
    """Two trials: the first and the last value of every parameter, as Vertex AI passes them."""
    ends = [(entry.get("parameterId"), *_ends(entry)) for entry in study.get("parameters", [])]
    if not ends:
        raise VertexError(f"{path} has no parameters, so all trials would be the same")
    return [[f"--{name}={values[side]}" for name, *values in ends] for side in (0, 1)]


def _ends(parameter: Mapping[str, Any]) -> tuple[Any, Any]:
    """The first and the last value of a parameter, which Vertex AI's message has checked."""
    match parameter:
        case {"doubleValueSpec": {"minValue": low, "maxValue": high}}:
            return float(low), float(high)
        case {"integerValueSpec": {"minValue": low, "maxValue": high}}:
            return int(low), int(high)
        case {"categoricalValueSpec": {"values": [first, *rest]}} | {
            "discreteValueSpec": {"values": [first, *rest]}
        }:
            return first, [first, *rest][-1]
        case _:
            raise VertexError(
                f"the parameter {parameter.get('parameterId')} has no values: give it a "
                "doubleValueSpec, integerValueSpec, categoricalValueSpec or discreteValueSpec"
            )
