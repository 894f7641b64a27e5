"""``eurosat serve``: answer over HTTP with a model file."""

import os
import tempfile
from typing import Literal

from eurosat.logs import LogLevel


def serve(
    model: str | None = None,
    *,
    host: Literal["0.0.0.0", "127.0.0.1"] = "0.0.0.0",
    port: int | None = None,
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
    log_level: LogLevel = "info",
) -> int:
    """Answer over HTTP with a model file, and show a page to try it at /.

    The API is documented at /docs. If EUROSAT_API_KEY is set in the environment, callers must
    send it as the header X-API-Key.

    Args:
        model: A checkpoint (.ckpt) or a file made by 'eurosat export', or a folder or bucket
            address (gs://...) that holds one, or a registered model such as registry:production;
            AIP_STORAGE_URI if not given.
        host: Address to listen on: 0.0.0.0 for all, 127.0.0.1 for this machine only.
        port: Port to listen on; AIP_HTTP_PORT, PORT or 8000 if not given.
        device: Where the model runs; 'auto' takes CUDA where the model's backend can use it.
        workers: Processes with a copy of the model, on each device.
        threads: Threads of one worker; the machine's cores shared evenly if not given.
        api_servers: Processes that read requests and write answers.
        max_batch_size: Most images in one call of the model.
        max_in_flight: Requests answered at the same time by one API process; more get a 503.
        max_body_mib: Most MiB in a request; more get a 413.
        max_images: Most images in a request; more get a 413.
        timeout: Seconds a request may take; then it gets a 504.
        examples: Folder of example images for the page; those in the model file if not given.
        log_level: What is logged.
    """
    # prometheus_client reads it when it is imported; every process of the service writes there.
    with tempfile.TemporaryDirectory(prefix="eurosat-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        from eurosat.logs import Logs
        from eurosat.serving.limits import Limits
        from eurosat.serving.start import start

        with Logs(log_level):
            return start(
                model,
                host=host,
                port=port,
                device=device,
                workers=workers,
                threads=threads,
                api_servers=api_servers,
                max_batch_size=max_batch_size,
                limits=Limits(max_in_flight, int(max_body_mib * 2**20), max_images, timeout),
                examples=examples,
                log_level=log_level,
            )
