"""Hostile JSON bodies."""

from collections.abc import Callable

from tests.serving.attacks import Attack

SIZE = 16 * 2**20 - 1000
"""Size of the bodies in bytes: a little below the limit."""

NUMBERS = 128 * 3 * 64 * 64
"""Most numbers of a request to the model, which takes 128 images at most."""

INFER = "/v2/models/eurosat/infer"


def many(start: str, entry: str, end: str, count: int = SIZE) -> bytes:
    """A body with many equal entries in a list."""
    count = min(count, (SIZE - len(start) - len(end)) // (len(entry) + 1))
    return (start + ",".join([entry] * count) + end).encode()


def tensor(data: str, shape: str = "[128,3,64,64]", datatype: str = "UINT8") -> tuple[str, str]:
    """The parts of a request around the first ``%`` in the data."""
    head = f'{{"inputs":[{{"name":"patches","shape":{shape},"datatype":"{datatype}","data":'
    start, _, end = data.partition("%")
    return head + start, end + "}]}"


def numbers(data: str, entry: str, count: int = SIZE, **options: str) -> bytes:
    """A request with many equal entries in the data."""
    start, end = tensor(data, **options)
    return many(start, entry, end, count)


FEW = tensor("%", "[1,3,64,64]")
REST = f"],{FEW[0][1:]}[1]{FEW[1]}"

_BODIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "instances": ("/vertex/predict", lambda: many('{"instances":[', "{}", "]}")),
    "empty instances": ("/vertex/predict", lambda: many('{"instances":[', '{"b64":""}', "]}")),
    "images": ("/predict", lambda: many('{"images":[', '""', "]}")),
    "no images": ("/explain", lambda: many('{"images":[', "null", "]}")),
    "one image": ("/predict", lambda: many('{"images":["', "A" * (SIZE - 20), '"]}')),
    "escaped image": ("/predict", lambda: b'{"images":["' + b"\\u0041" * (SIZE // 6 - 9) + b'"]}'),
    "padding": ("/vertex/predict", lambda: b'{"instances":[{"b64":"' + b"=" * SIZE + b'"}]}'),
    "unknown fields": ("/predict", lambda: many('{"images":["AAAA"],', '"a":[{}]', "}")),
    "unknown name": ("/predict", lambda: b'{"' + b"a" * SIZE + b'":1}'),
    "repeated fields": ("/predict", lambda: many("{", '"images":[]', "}")),
    "open lists": ("/predict", lambda: b"[" * 200_000),
    "open lists of 16 MiB": ("/vertex/predict", lambda: b'{"instances":' + b"[" * SIZE),
    "open objects": (INFER, lambda: b'{"inputs":' * 200_000),
    "nested unknown field": ("/predict", lambda: b'{"a":' + b"[" * 99_999 + b"]" * 99_999 + b"}"),
    "nested data": (INFER, lambda: (FEW[0] + "[" * 99_999 + "]" * 99_999 + FEW[1]).encode()),
    "large number": (INFER, lambda: numbers("[%]", "9" * (SIZE - 200))),
    "large exponent": (INFER, lambda: numbers("[%]", "1e99999999")),
    "white space": ("/predict", lambda: b" " * SIZE),
    "NaN": (INFER, lambda: numbers("[%]", "NaN", NUMBERS)),
    "lone surrogates": ("/predict", lambda: many('{"images":[', '"\\ud800"', "]}", 10)),
    "UTF-16": ("/vertex/predict", lambda: '{"instances":[]}'.encode("utf-16")),
    "byte order mark": ("/predict", lambda: b'\xef\xbb\xbf{"images":["AAAA"]}'),
    "no UTF-8": ("/predict", lambda: b'{"images":["' + b"\xff" * SIZE + b'"]}'),
    "inputs": (INFER, lambda: many('{"inputs":[', "{}", "]}")),
    "outputs": (INFER, lambda: many('{"outputs":[', '{"name":""}', REST)),
    "few outputs": (INFER, lambda: many('{"outputs":[', '{"name":""}', REST, 900)),
    "parameters": (INFER, lambda: many('{"parameters":[', "{}", REST)),
    "long name": (INFER, lambda: numbers("[%]", "1", 1).replace(b"patches", b"x" * (SIZE - 200))),
    "shape": (INFER, lambda: numbers("[%]", "1", 9, shape=f"[{'1,' * NUMBERS}1]")),
    "numbers": (INFER, lambda: numbers("[%]", "1")),
    "as many numbers": (INFER, lambda: numbers("[%]", "65535", NUMBERS)),
    "as many lists": (INFER, lambda: numbers("[%]", "[]", NUMBERS)),
    "as many objects": (INFER, lambda: numbers("[%]", "{}", NUMBERS)),
    "as many texts": (INFER, lambda: numbers("[%]", '""', NUMBERS)),
    "one list and as many numbers": (INFER, lambda: numbers("[[1],%]", "1", NUMBERS - 1)),
    "one patch of all numbers": (INFER, lambda: numbers("[[[[%]]]]", "1", NUMBERS)),
    "files": (INFER, lambda: numbers("[%]", '""', shape="[128]", datatype="BYTES")),
}  # fmt: skip


def _attack(path: str, make: Callable[[], bytes]) -> Callable[[], Attack]:
    return lambda: Attack((400, 413, 422), body=make(), path=path)


BODIES = {name: _attack(*entry) for name, entry in _BODIES.items()}
"""Requests with hostile JSON, by name."""
