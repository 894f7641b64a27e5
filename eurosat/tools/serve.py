"""``eurosat serve``: classify images over HTTP with a model file."""

import os
from pathlib import Path
from typing import Literal

from eurosat.logs import LogLevel


def serve(
    model: str | None = None,
    *,
    host: Literal["0.0.0.0", "127.0.0.1"] = "0.0.0.0",
    port: int | None = None,
    metrics_port: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers: int = 1,
    threads: int | None = None,
    api_servers: int = 1,
    max_batch_size: int = 64,
    max_in_flight: int = 256,
    max_body_mib: float = 16.0,
    max_images: int = 128,
    timeout: float = 30.0,
    examples: str | None = None,
    log_url: str | None = None,
    log_spool: Path | None = None,
    log_spool_mib: float = 256.0,
    log_seconds: float = 30.0,
    log_level: LogLevel = "info",
) -> int:
    """Serve a model file over HTTP.

    The page at / classifies images that a user chooses, and the page at /docs documents the API. If
    the environment variable EUROSAT_API_KEY is set, requests for predictions and for /info need the
    key in the header 'X-API-Key: KEY' or 'Authorization: Bearer KEY', where KEY is the value of the
    variable. The pages, the example images, /health, /metrics, and the metadata and health routes
    of the Open Inference Protocol (/v2/...) need no key.

    Args:
        model: Model URI: the path or the bucket address (gs://...) of a checkpoint (.ckpt), of a
            file written by 'eurosat export', or of a folder with exactly one such file; or a
            registered model, such as registry:production (git registry) or wandb:production (W&B
            Registry). Default: the environment variable AIP_STORAGE_URI, which Vertex AI sets.
        host: Address to listen on: 0.0.0.0 for all network interfaces, 127.0.0.1 for this machine
            only.
        port: Port to listen on, from 1024 to 65535. Default: the environment variable AIP_HTTP_PORT
            (Vertex AI sets it); without AIP_HTTP_PORT, PORT (Cloud Run sets it); without both,
            8000.
        metrics_port: Port of the metrics for Prometheus, such as 8002. If the option is given, the
            service has no route /metrics on its own port, which may be open to everybody.
        device: Device that runs the model; 'auto' chooses CUDA if the library that runs the
            model file can use CUDA.
        workers: Number of worker processes on each GPU, or on the CPU; every worker holds
            a copy of the model.
        threads: Number of threads per worker. If not given, the workers share the cores that the
            process's CPU affinity and CPU quota allow.
        api_servers: Number of API processes, which read requests and write responses.
        max_batch_size: Largest number of images in one call of the model.
        max_in_flight: Largest number of requests that one API process answers at the same time; a
            further request gets status 503. A request counts from the moment when its whole body
            has arrived.
        max_body_mib: Largest size of a request in MiB; a larger request gets status 413.
        max_images: Largest number of images in a request; a request with more images gets status
            413.
        timeout: Longest time for a response in seconds; a slower request gets status 504, or 408
            if its body has not arrived by then.
        examples: Folder of example images for the page; if not given, the example images that the
            model file contains.
        log_url: Folder, or URL of a folder in a bucket such as gs://BUCKET/log, for the prediction
            log; 'eurosat log' reads the log. If not given, predictions are not logged.
        log_spool: Local folder, the spool, in which records of the prediction log wait for their
            upload. If the service ends before the upload, the next service with the same spool
            uploads the records. Default: a folder in the system's folder for temporary files; its
            name depends on --log_url and the user.
        log_spool_mib: Largest size of the spool in MiB, at least 4; if the spool is full, further
            records are dropped and counted.
        log_seconds: Age in seconds, at most 300, at which records of the prediction log are
            uploaded.
        log_level: Lowest level of messages that are logged.
    """
    from eurosat.logs import Logs
    from eurosat.operating_system import find_temporary_folder
    from eurosat.serving.folder import service_folder
    from eurosat.serving.stop import StopOrder

    with StopOrder() as stop, Logs(log_level):
        find_temporary_folder()
        with service_folder() as folder:
            # prometheus_client reads the variable at import; every process writes into the folder.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
            (folder / "metrics").mkdir()
            from eurosat.monitoring.log.settings import log_settings
            from eurosat.serving.limits import Limits
            from eurosat.serving.start import start

            return start(
                model,
                host=host,
                port=port,
                metrics_port=metrics_port,
                device=device,
                workers=workers,
                threads=threads,
                api_servers=api_servers,
                max_batch_size=max_batch_size,
                limits=Limits(max_in_flight, int(max_body_mib * 2**20), max_images, timeout),
                examples=examples,
                log=log_settings(log_url, log_spool, log_spool_mib, log_seconds),
                log_level=log_level,
                folder=folder,
                stop=stop,
            )
    return stop.exit_code  # the order to stop came during the start
