"""The parts of a body, as a route gets them."""

import asyncio

from starlette.types import Message

from eurosat.serving.bodies import Bodies, Body
from eurosat.serving.limits import Limits


def test_a_route_gets_a_body_in_short_pieces() -> None:
    data = bytes(range(256)) * 1000
    parts = iter([data[:100_000], data[100_000:], b""])

    async def receive() -> Message:
        part = next(parts)
        return {"type": "http.request", "body": part, "more_body": bool(part)}

    async def received() -> list[Message]:
        body = Body(receive, Bodies(Limits(1, 2**20, 1, 10)))
        async with asyncio.timeout(10) as time_limit:
            await body.read(time_limit)
            found = [await body.receive()]
            while found[-1]["more_body"]:
                found.append(await body.receive())
        return found

    found = asyncio.run(received())
    assert b"".join(piece["body"] for piece in found) == data
    assert max(len(piece["body"]) for piece in found) <= 16 * 1024
