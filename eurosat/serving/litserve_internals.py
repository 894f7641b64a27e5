"""The names of LitServe that the service overrides and uses, with the reason for each name.

LitServe documents hooks for the computation in a worker (`setup`, `batch`, `predict`), but no hooks
for the transport of requests, the replacement of workers and the shutdown of the server. Therefore
the service overrides undocumented methods. Such methods may change in any release, so
`pyproject.toml` binds LitServe to the version that the service was tested with, and a test compares
this list with the installed LitServe. To move to another version: change the bound, run
``pytest tests/serving/test_litserve_internals.py``, read LitServe's changes of every name that
fails, and run the rest of ``tests/serving``.
"""

from typing import NamedTuple


class Internal(NamedTuple):
    """A name of LitServe that the service overrides or uses."""

    owner: str
    """Module, or class with its module, that has the name."""

    name: str

    signature: str | None
    """Parameters without annotations; None for an attribute that the owner sets or reads."""

    reason: str
    """Reason why the service needs the name."""


_SERVER = "litserve.server.LitServer"
_API = "litserve.api.LitAPI"
_LOOP = "litserve.loops.base.LitLoop"
_TRANSPORT = "litserve.transport.base.MessageTransport"

OVERRIDDEN = (
    Internal(
        _SERVER,
        "register_endpoints",
        "(self)",
        "The service has its own routes instead of LitServe's /predict, /health and /info.",
    ),
    Internal(
        _SERVER,
        "_init_manager",
        "(self, num_api_servers)",
        "Sockets and shared memory replace LitServe's managing process and its queues.",
    ),
    Internal(
        _SERVER,
        "lifespan",
        "(self, app)",
        "LitServe goes on without answers after an error in the task that receives them.",
    ),
    Internal(
        _SERVER,
        "verify_worker_status",
        "(self)",
        "LitServe waits for ever for a worker that exited before it was ready.",
    ),
    Internal(
        _SERVER,
        "_start_server",
        "(self, port, num_uvicorn_servers, log_level, sockets, uvicorn_worker_type, **kwargs)",
        "LitServe starts all API processes once; the service starts one again that has exited.",
    ),
    Internal(
        _SERVER,
        "_start_worker_monitoring",
        "(self, manager, uvicorn_workers)",
        "LitServe fails the requests of a worker that exits, and does not notice that a process "
        "hangs or that an API process exits.",
    ),
    Internal(
        _SERVER,
        "_perform_graceful_shutdown",
        "(self, manager, uvicorn_workers, shutdown_reason='normal')",
        "LitServe ends the workers before the requests in flight are answered.",
    ),
    Internal(
        _LOOP,
        "__call__",
        "(self, lit_api, device, worker_id, request_queue, transport, workers_setup_status, "
        "callback_runner)",
        "LitServe's loops wait for a batch to fill, or poll; the service's loop does neither.",
    ),
    Internal(_API, "setup", "(self, device)", "The hook is documented: it opens the model."),
    Internal(_API, "batch", "(self, inputs)", "The hook is documented: it joins images."),
    Internal(_API, "predict", "(self, x, **kwargs)", "The hook is documented: it runs the model."),
    Internal(
        _TRANSPORT,
        "send",
        "(self, item, consumer_id)",
        "Answers travel over the service's sockets.",
    ),
    Internal(
        _TRANSPORT,
        "areceive",
        "(self, timeout=None, consumer_id=None)",
        "Answers travel over the service's sockets.",
    ),
    Internal(
        _TRANSPORT, "close", "(self, **kwargs)", "LitServe closes the transport when it ends."
    ),
)
"""Methods of LitServe's classes that classes of the service override."""

USED = (
    Internal(_SERVER, "app", None, "The service registers its routes on LitServe's application."),
    Internal(_SERVER, "lit_api", None, "Monitoring starts the workers of this API again."),
    Internal(
        _SERVER, "litapi_request_queues", None, "The service's channel replaces LitServe's queue."
    ),
    Internal(_SERVER, "_transport", None, "The service's transport replaces LitServe's transport."),
    Internal(
        _SERVER,
        "workers_setup_status",
        None,
        "The service's shared memory replaces LitServe's dictionary.",
    ),
    Internal(
        _SERVER, "workers_setup_status.values", None, "LitServe waits for the first ready worker."
    ),
    Internal(_SERVER, "inference_workers", None, "Monitoring waits for these processes to exit."),
    Internal(
        _SERVER, "uvicorn_graceful_timeout", None, "Requests in flight get 5 s instead of 30 s."
    ),
    Internal(
        _SERVER,
        "_inference_workers_config_for_api",
        "(self, api_path)",
        "The list has one entry per worker.",
    ),
    Internal(
        _SERVER,
        "launch_single_inference_worker",
        "(self, lit_api, worker_id)",
        "Monitoring starts a new worker after a worker exit.",
    ),
    Internal(
        _SERVER,
        "run",
        "(self, host='0.0.0.0', port=8000, num_api_servers=None, log_level='info', "
        "generate_client_file=True, api_server_worker_type='process', pretty_logs=False, **kwargs)",
        "The service runs in this method, which calls the overridden methods in their order.",
    ),
    Internal(_API, "max_batch_size", None, "The loop batches at most this number of images."),
    Internal(_API, "request_timeout", None, "The loop leaves out requests that are too old."),
    Internal(
        _LOOP,
        "put_response",
        "(self, transport, response_queue_id, uid, response_data, status, response_type)",
        "The loop sends answers in the form in which LitServe's API processes read them.",
    ),
    Internal(
        "litserve.connector",
        "check_cuda_with_nvidia_smi",
        "()",
        "The function counts CUDA devices without torch.",
    ),
    Internal("litserve.utils", "LitAPIStatus", "()", "The status tells errors from other answers."),
    Internal("litserve.utils", "LoopResponseType", None, "Answers are regular, not streamed."),
    Internal(
        "litserve.utils",
        "WorkerSetupStatus",
        "(STARTING='starting', READY='ready', ERROR='error', FINISHED='finished')",
        "LitServe compares a worker's state with these values.",
    ),
    Internal("litserve.loops.base", "LitLoop", "()", "The service's loop derives from this class."),
    Internal(
        "litserve.transport.base",
        "MessageTransport",
        "()",
        "The service's transport derives from this class.",
    ),
)
"""Other names of LitServe that the service calls, sets, reads or imports from inner modules."""
