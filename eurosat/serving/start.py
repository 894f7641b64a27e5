"""The start of the service, from a model URI, settings and environment variables."""

import base64
import logging
import os
import re
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from eurosat.api_key import read_api_key
from eurosat.errors import EuroSATError
from eurosat.inference.backends import find_backend
from eurosat.inference.runtime import open_model
from eurosat.logs import LogLevel
from eurosat.monitoring.log.settings import LogSettings
from eurosat.operating_system import available_cores
from eurosat.pixels import IMAGE_SUFFIXES
from eurosat.registry.find import find_model
from eurosat.serving.api import ClassifierAPI
from eurosat.serving.limits import Limits
from eurosat.serving.server import Server
from eurosat.serving.stop import StopOrder

_log = logging.getLogger(__name__)

_PORTS = range(1024, 65536)
"""LitServe accepts no other port."""


def start(
    model: str | None,
    *,
    host: str,
    port: int | None,
    metrics_port: int | None,
    device: Literal["auto", "cpu", "cuda"],
    workers: int,
    threads: int | None,
    api_servers: int,
    max_batch_size: int,
    limits: Limits,
    examples: str | None,
    log: LogSettings | None,
    log_level: LogLevel,
    folder: Path,
    stop: StopOrder,
) -> int:
    """Serve until the order to stop; `eurosat.tools.serve.serve` documents the other arguments.

    The service's private ``folder`` is for its sockets and a fetched model.

    Returns:
        The exit code.

    Raises:
        EuroSATError: The model, the port or a setting cannot be used.
    """
    for name, value in {
        "workers": workers,
        "threads": threads,
        "api_servers": api_servers,
        "max_batch_size": max_batch_size,
        "max_in_flight": limits.max_in_flight,
        "max_images": limits.max_images,
        "max_body_mib": limits.max_body_bytes,
        "timeout": limits.timeout,
    }.items():
        if value is not None and value <= 0:
            raise EuroSATError(f"--{name} must be more than 0")
    environment = os.environ
    api_key = read_api_key()
    predict_route = _path_of(environment, "AIP_PREDICT_ROUTE")
    health_route = _path_of(environment, "AIP_HEALTH_ROUTE")
    port = _port_of(environment) if port is None else port
    if port not in _PORTS:
        raise EuroSATError(f"port {port} is not allowed: choose a --port from 1024 to 65535")
    if metrics_port is not None and not 1 <= metrics_port <= 65535:
        raise EuroSATError(f"{metrics_port} is not a port: choose a --metrics_port from 1 to 65535")
    if metrics_port == port:
        raise EuroSATError(
            f"--metrics_port is the service's own port {port}: choose another --metrics_port, or "
            "leave the option out to have the metrics at /metrics"
        )
    _check_free(host, port, "port")
    if metrics_port:
        _check_free(host, metrics_port, "metrics_port")
    model_uri = model or environment.get("AIP_STORAGE_URI")
    if not model_uri:
        raise EuroSATError("no model is given: name a model file or URI, or set AIP_STORAGE_URI")
    with tempfile.TemporaryDirectory(prefix="model-", dir=folder) as fetched:
        path = find_model(model_uri, Path(fetched))
        card = open_model(path, threads=1).card  # fails at once if the file is damaged
        devices = find_backend(path).cuda_devices() if device != "cpu" else 0
        if device == "cuda" and not devices:
            raise EuroSATError(
                f"the backend of {path.name} finds no CUDA device: choose --device cpu"
            )
        accelerator = "cuda" if devices else "cpu"
        total = workers * max(devices, 1)
        server = Server(
            ClassifierAPI(
                path,
                max_batch_size=max_batch_size,
                threads=threads or max(available_cores() // total, 1),
                log_level=log_level,
            ),
            card,
            limits,
            accelerator=accelerator,
            devices=max(devices, 1),
            workers_per_device=workers,
            metrics_port=metrics_port,
            api_key=api_key,
            vertex_route=predict_route or "/vertex/predict",
            health_route=health_route,
            examples=_read_examples(Path(examples))
            if examples
            else {name: base64.b64decode(text) for name, text in card.examples.items()},
            folder=folder,
            stop=stop,
            api_servers=api_servers,
            log=log,
        )
        if server.reference is None:
            _log.warning(
                "%s has no reference, because an older version of eurosat wrote the file, or "
                "because the model gives no features: the answers have no out-of-distribution "
                "score. Export the model again for a reference",
                path.name,
            )
        shown = "localhost" if host == "0.0.0.0" else host
        print(
            f"{card.version} ({card.format}, {accelerator})\n"
            f"page   http://{shown}:{port}/\nAPI    http://{shown}:{port}/docs",
            flush=True,
        )
        return server.serve(host, port, log_level)


def _path_of(environment: Mapping[str, str], variable: str) -> str | None:
    path = environment.get(variable)
    if path is not None and not re.fullmatch(r"/[\w.:/-]+", path, re.ASCII):
        raise EuroSATError(
            f"{variable} is '{path}', which is no path: set a path such as /vertex, or unset the "
            "variable"
        )
    return path


def _port_of(environment: Mapping[str, str]) -> int:
    given = environment.get("AIP_HTTP_PORT") or environment.get("PORT") or "8000"
    if not re.fullmatch("[0-9]{1,5}", given) or int(given) not in _PORTS:
        raise EuroSATError(
            f"AIP_HTTP_PORT or PORT is '{given:.20}', which is not allowed: set a port from 1024 "
            "to 65535, or choose a --port"
        )
    return int(given)


def _check_free(host: str, port: int, option: str) -> None:
    """Raise an `EuroSATError` that names the option if the port cannot be bound."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = str(error.strerror).lower()
            raise EuroSATError(
                f"cannot bind {host}:{port}: {reason}; choose another --{option}"
            ) from error


def _read_examples(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise EuroSATError(f"there is no folder {folder}: give --examples a folder of images")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return {file.name: file.read_bytes() for file in files}
