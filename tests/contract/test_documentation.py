"""The API page: served from this host alone, under a strict policy, and cached rightly."""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from contracts.operations import OPERATIONS
from ingress.http.documentation import add_documentation, load_documentation

STATIC = Path(__file__).parents[2] / "ingress" / "static"
PAGES = ("/docs", "/docs/events")
DOCUMENTS = ("/openapi.json", "/asyncapi.json", "/docs/collection.json")
OWN_FILES = sorted((STATIC / "docs").iterdir())

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    app = web.Application()
    handlers = load_documentation().handlers
    for operation in OPERATIONS:
        if operation.operation_id in handlers:
            app.router.add_route(operation.method, operation.path, handlers[operation.operation_id])
    add_documentation(app)
    async with TestClient(TestServer(app)) as running:
        yield running


@pytest.mark.parametrize("path", PAGES)
async def test_the_page_allows_only_its_own_host(client: Client, path: str) -> None:
    answer = await client.get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert answer.content_type == "text/html"
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert not re.search(r"[a-z]\.[a-z]", policy)


@pytest.mark.parametrize("path", PAGES)
async def test_the_page_has_no_inline_script_or_style(client: Client, path: str) -> None:
    page = await (await client.get(path)).text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", page) == []
    assert version("ackledger") in page


@pytest.mark.parametrize("page_path", PAGES)
async def test_everything_that_the_page_names_is_served(client: Client, page_path: str) -> None:
    page = await (await client.get(page_path)).text()
    named = set(re.findall(r'(?:href|src)="([^"#]+)"', page))
    assert {*PAGES, *DOCUMENTS} <= named
    for path in named:
        answer = await client.get(path)
        assert answer.status == 200, path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_page_of_messages_needs_no_script_and_shows_all_of_the_document(
    client: Client,
) -> None:
    page = await (await client.get("/docs/events")).text()
    document = json.loads(await (await client.get("/asyncapi.json")).read())
    anchors = set(re.findall(r'id="([^"]+)"', page))

    assert "<script" not in page
    assert {f"channel-{name}" for name in document["channels"]} <= anchors
    for kind in ("message", "schema"):
        assert {f"{kind}-{name}" for name in document["components"][f"{kind}s"]} <= anchors
    assert set(re.findall(r'href="#([^"]+)"', page)) <= anchors


@pytest.mark.parametrize("path", [*PAGES, *DOCUMENTS])
async def test_a_current_copy_is_answered_with_304(client: Client, path: str) -> None:
    first = await client.get(path)
    etag = first.headers["ETag"]
    again = await client.get(path, headers={"If-None-Match": etag})
    other = await client.get(path, headers={"If-None-Match": '"another"'})
    assert (first.status, again.status, other.status) == (200, 304, 200)
    assert await again.read() == b""
    assert again.headers["ETag"] == etag
    assert again.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("path", "key"), list(zip(DOCUMENTS, ("openapi", "asyncapi", "item"), strict=True))
)
async def test_the_documents_are_served_as_json(client: Client, path: str, key: str) -> None:
    answer = await client.get(path)
    assert answer.content_type == "application/json"
    assert key in json.loads(await answer.read())


@pytest.mark.parametrize("name", ["VENDORED.md", "..%2Fdocs%2Fdocs.html", "docs.html", "x"])
async def test_only_listed_files_are_served(client: Client, name: str) -> None:
    assert (await client.get(f"/docs/static/{name}")).status == 404


@pytest.mark.parametrize("path", OWN_FILES, ids=lambda path: path.name)
def test_our_own_files_name_no_outside_host(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text) == []


def test_the_styles_load_nothing_from_outside() -> None:
    for path in STATIC.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"url\((?!\"?data:)|@import", text) == [], path.name


def test_the_page_sends_the_document_to_no_validator() -> None:
    assert "validatorUrl: null" in (STATIC / "docs" / "docs.js").read_text(encoding="utf-8")


def test_the_vendored_files_are_those_that_were_looked_at() -> None:
    table = (STATIC / "swagger-ui" / "VENDORED.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", table)
    files = {path.name for path in (STATIC / "swagger-ui").iterdir()} - {"VENDORED.md"}
    assert {name for name, _ in rows} == files
    for name, digest in rows:
        content = (STATIC / "swagger-ui" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest, name
