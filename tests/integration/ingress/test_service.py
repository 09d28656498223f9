"""What needs no key, request ids, and requests that fit no operation."""

import asyncio
from uuid import UUID

import orjson
import pytest

from tests.integration.ingress.document import CheckedApi, is_fresh_request_id
from tests.integration.ingress.serving import CheckedDoors
from tests.support import Api

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("path", "content_type", "part"),
    [
        ("/healthz", "application/json", b'"live"'),
        ("/readyz", "application/json", b'"ready"'),
        ("/docs", "text/html", b"<html"),
        ("/docs/events", "text/html", b"<html"),
        ("/docs/collection.json", "application/json", b'"item"'),
        ("/openapi.json", "application/json", b'"openapi"'),
        ("/asyncapi.json", "application/json", b'"asyncapi"'),
    ],
)
async def test_health_and_documents_need_no_key(
    doors: CheckedDoors, path: str, content_type: str, part: bytes
) -> None:
    async with CheckedApi(doors.system.http_url, None) as nobody:
        answer = await nobody.get(path)

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith(content_type)
    assert part in answer.body


async def test_ready_names_every_dependency(api: CheckedApi) -> None:
    answer = await api.get("/readyz")

    assert answer.json["status"] == "ready"
    states = {name: one["state"] for name, one in answer.json["dependencies"].items()}
    assert states == {"database": "up", "broker": "up", "redis": "up"}


async def test_every_process_tells_of_itself_on_its_status_port(doors: CheckedDoors) -> None:
    for url in doors.system.status_urls.values():
        async with Api(url, None) as process:
            for path in ("/healthz", "/readyz", "/metrics"):
                answer = await process.call("GET", path)
                assert answer.status == 200, (url, path)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v2/wallets", "/v1/wallets/", "/v1/é"])
async def test_an_unknown_path_is_a_problem(api: CheckedApi, path: str) -> None:
    answer = await api.get(path)

    assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/wallets", {"GET", "POST"}),
        ("PUT", f"/v1/wallets/{UUID(int=1)}", {"GET", "PATCH", "DELETE"}),
        ("PATCH", "/v1/transactions", {"GET", "POST"}),
        ("DELETE", "/v1/transactions/batch", {"POST", "GET"}),
        ("POST", "/healthz", {"GET"}),
        ("TRACE", "/docs", {"GET"}),
    ],
)
async def test_a_method_that_a_path_does_not_have_is_a_problem(
    api: CheckedApi, method: str, path: str, allowed: set[str]
) -> None:
    answer = await api.call(method, path)

    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} <= allowed
    assert answer.headers["Allow"]


@pytest.mark.parametrize("name", ["checkout-7f3a", "a", "A.b_c:d-1", "x" * 128])
@pytest.mark.parametrize("path", ["/v1/wallets", "/v1/wallets/7", "/healthz", "/nowhere"])
async def test_a_sane_request_id_is_kept(api: CheckedApi, path: str, name: str) -> None:
    answer = await api.call("GET", path, headers={"X-Request-Id": name})

    assert answer.headers["X-Request-Id"] == name


@pytest.mark.parametrize(
    "name", ["", "x" * 129, "two words", "a\tb", "é", "<script>", "a,b", "x" * 5000]
)
@pytest.mark.parametrize("path", ["/v1/wallets", "/nowhere"])
async def test_a_request_id_that_is_not_sane_is_replaced(
    api: CheckedApi, path: str, name: str
) -> None:
    answer = await api.call("GET", path, headers={"X-Request-Id": name})

    assert is_fresh_request_id(answer.headers["X-Request-Id"])


async def test_every_request_gets_an_id_of_its_own(api: CheckedApi) -> None:
    ids = [(await api.get("/healthz")).headers["X-Request-Id"] for _ in range(5)]

    assert len(set(ids)) == 5
    assert all(is_fresh_request_id(one) for one in ids)


async def test_the_trace_of_the_client_names_its_request(api: CheckedApi) -> None:
    traceparent = f"00-{_TRACE}-00f067aa0ba902b7-01"
    answer = await api.call("GET", "/v1/wallets", headers={"traceparent": traceparent})

    assert answer.headers["X-Request-Id"] == _TRACE


@pytest.mark.parametrize(
    "traceparent",
    [f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{_TRACE}-{'0' * 16}-01", f"00-{_TRACE.upper()}-x"],
)
async def test_an_invalid_trace_is_not_believed(api: CheckedApi, traceparent: str) -> None:
    answer = await api.call("GET", "/v1/wallets", headers={"traceparent": traceparent})

    assert answer.headers["X-Request-Id"] not in traceparent.lower()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/wallets HTTP/1.1\r\nHost: t\r\nX-Request-Id: a\x01b\r\nConnection: close\r\n\r\n",
        b"GET /v1/wallets HTTP/1.1\r\nHost: t\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["control character", "header too long", "no HTTP"],
)
async def test_what_is_not_http_is_refused_and_closed(
    doors: CheckedDoors, request_bytes: bytes
) -> None:
    host, _, port = doors.system.http_url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_bytes)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 400"), answer[:200]
    assert b"Content-Type: application/problem+json" in head
    problem = orjson.loads(body)
    assert problem["code"] == "malformed_request"
    assert f"X-Request-Id: {problem['request_id']}".encode() in head
