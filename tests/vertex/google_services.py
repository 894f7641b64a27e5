"""Google's services on the loopback interface, for Google's own client libraries."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.api_core import grpc_helpers

Answer = Callable[[Any], Any]
"""Maps a request to its answer; a `grpc.StatusCode` is the error of the call."""


class _Method(grpc.GenericRpcHandler):
    """One method of a service, which reads and writes the service's real messages."""

    def __init__(self, name: str, request: Any, answer: Answer) -> None:
        self.name, self.request, self.answer = name, request, answer

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method != self.name:
            return None

        def behave(request: Any, context: grpc.ServicerContext) -> Any:
            answer = self.answer(request)
            if isinstance(answer, grpc.StatusCode):
                context.abort(answer, "as the test wants")
            return answer

        return grpc.unary_unary_rpc_method_handler(
            behave,
            request_deserializer=self.request.deserialize,
            response_serializer=lambda message: (
                type(message).serialize(message)
                if hasattr(type(message), "serialize")
                else message.SerializeToString()
            ),
        )


@contextmanager
def google_services(
    methods: dict[str, tuple[Any, Answer]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Run services, and direct all of Google's gRPC clients to them.

    Args:
        methods: Type of the request and the answer, by name of the method, such as
            ``/google.cloud.aiplatform.v1.JobService/GetCustomJob``.
        monkeypatch: Replaces the one function that opens the clients' encrypted channels.
    """
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [_Method(name, request, answer) for name, (request, answer) in methods.items()]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setattr(
        grpc_helpers,
        "create_channel",
        lambda *_, **__: grpc.insecure_channel(f"127.0.0.1:{port}"),
    )
    try:
        yield
    finally:
        server.stop(None).wait()
