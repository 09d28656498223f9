"""What the console takes of an answer of the API."""

import pytest
from aiohttp import web

from console.api import ANSWER_OCTETS_MAX, UNREACHABLE, Api


@pytest.mark.parametrize(("octets", "is_taken"), [(300_000, True), (ANSWER_OCTETS_MAX + 1, False)])
async def test_a_large_answer_is_read_to_its_end_and_one_without_bound_is_not(
    octets: int, *, is_taken: bool
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response("x" * (octets - 2))

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    api = Api(f"http://{host}:{port}")
    found = await api.call("GET", "/")
    await api.close()
    await runner.cleanup()

    assert (found.json == "x" * (octets - 2)) is is_taken
    assert (found is UNREACHABLE) is not is_taken
